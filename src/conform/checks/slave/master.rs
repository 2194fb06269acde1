//! The fixture `Master`: the suite as the node's master, with a port of the test service on the node.

use crate::conform::checks::service::Service;
use crate::conform::checks::{ANY, REST};
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::{Packet, Session};
use crate::conform::stop::Verdict;
use serde_json::{Value as Json, json};
use std::ops::{Deref, DerefMut};

/// The seed that the node chooses as its master, after it received the node's database.
pub(super) async fn master(c: &Ctx) -> Verdict<Session> {
    let mut session = c.meet_at("m", 0).await?;
    database(&mut session).await?;
    Ok(session)
}

/// Another seed of the node, which may become its master later.
pub(super) async fn next(c: &Ctx) -> Verdict<Session> {
    let mut session = c.meet_at("n", 1).await?;
    session.barrier().await?;
    Ok(session)
}

/// The database that the node sends to its new master.
pub(super) async fn database(session: &mut Session) -> Verdict<Json> {
    session.send(json!(["", "g_global"])).await?;
    let packet = session.expect(json!(["", "g_slave", {REST: ANY}])).await?;
    Ok(packet.get(2).map(pattern::to_json).unwrap_or_default())
}

/// A seed that is or becomes the node's master, and a family that it makes the service use.
pub(super) struct Master {
    pub(super) context: Ctx,
    pub(super) family: String,
    service: Service,
}

impl Deref for Master {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Master {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

impl Master {
    pub(super) async fn with_service(context: Ctx) -> Verdict<Master> {
        context.service()?;
        let service = Service::spawned(&context, master(&context).await?).await?;
        Ok(Master { family: context.name("family"), context, service })
    }

    /// Another seed of the node, which may become its master later.
    pub(super) async fn next(&self) -> Verdict<Master> {
        let service = Service::shared(&self.context, next(&self.context).await?);
        Ok(Master { context: self.context.clone(), family: self.family.clone(), service })
    }

    /// Closes this master's connection.
    pub(super) async fn closes(self) {
        self.service.close().await;
    }

    /// Closes this master's connection, so that the node chooses the other one. Returns the database that
    /// the node sends there.
    pub(super) async fn hands_over(self, next: &mut Master) -> Verdict<Json> {
        self.closes().await;
        database(next).await
    }

    pub(super) async fn lets_set(&mut self, key: &str, value: Json) -> Verdict {
        let message = json!(["db_set", self.family, key, value]);
        self.lets(message).await
    }

    pub(super) async fn lets_delete(&mut self, key: &str) -> Verdict {
        let message = json!(["db_del", self.family, key]);
        self.lets(message).await
    }

    /// Makes the service monitor the family and report to that port.
    pub(super) async fn lets_watch(&mut self, label: &str, port: &str) -> Verdict {
        let message = json!(["db_mon", label, self.family, port]);
        self.lets(message).await
    }

    /// The node monitors the family at this master.
    pub(super) async fn is_subscribed(&mut self) -> Verdict {
        let subscription = json!(["", "g_mon1", self.family]);
        self.expect(subscription).await?;
        Ok(())
    }

    /// The node sends an update of the family.
    pub(super) async fn is_updated(&mut self) -> Verdict<Packet> {
        let update = json!(["", "g_upd", self.family, REST]);
        self.expect(update).await
    }

    /// The node sends no update of the family.
    pub(super) async fn is_not_updated(&mut self) -> Verdict {
        let update = json!(["", "g_upd", self.family, REST]);
        self.nothing(update).await
    }

    /// Sends its slave the whole content of the family.
    pub(super) async fn tells_all(&mut self, entries: Json) -> Verdict {
        let content = json!(["", "g_chg1", self.family, entries]);
        self.send(content).await
    }

    /// The next report of the service: the label, the content, and what is added, changed and
    /// deleted.
    pub(super) async fn gets_report(&mut self, wanted: Json) -> Verdict<Packet> {
        let mut packet = vec![json!("report")];
        packet.extend(wanted.as_array().into_iter().flatten().cloned());
        self.expect_first(json!(["report", REST]), Json::Array(packet)).await
    }
}
