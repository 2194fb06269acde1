//! The fixture `Family`: a family of the database that only one check uses, and the nodes around it.

use crate::conform::checks::framings::speaking;
use crate::conform::checks::{ANY, REST};
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::{Session, show_packet};
use crate::conform::shake;
use crate::conform::stop::{Verdict, ensure, miss};
use crate::wire::framing::Framing;
use serde_json::{Value as Json, json};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// How long a global node may keep entries of a node that is no longer their owner (§5.2).
const GRACE: Duration = Duration::from_secs(10);

/// The family, and the means to connect nodes that use it.
pub(super) struct Family {
    pub(super) name: String,
    context: Ctx,
}

impl From<Ctx> for Family {
    fn from(context: Ctx) -> Family {
        Family { name: context.name("family"), context }
    }
}

impl Family {
    /// Another family of the same check.
    pub(super) fn called(&self, name: &str) -> Family {
        Family { name: self.context.name(name), context: self.context.clone() }
    }

    /// The ID of a node that does not connect.
    pub(super) fn nobody(&self) -> String {
        self.context.name("nobody")
    }

    /// Whether the node's greeting has a key of this value.
    pub(super) async fn greets_with(&self, key: &str, value: &[u8]) -> Verdict<bool> {
        let mut conn = self.context.connect("greeting").await?;
        let greeted = shake::greet(&mut conn, &self.context.shake("greeting")).await?;
        Ok(greeted.peer.written(key) == Some(value))
    }

    fn member(&self, session: Session) -> Member {
        Member { session, family: self.name.clone() }
    }

    /// A connected node that has sent nothing yet.
    pub(super) async fn stranger(&self, name: &str) -> Verdict<Member> {
        Ok(self.member(self.context.meet(name).await?))
    }

    /// A slave without entries that speaks CBOR.
    pub(super) async fn cbor_slave(&self) -> Verdict<Member> {
        let mut slave = self.member(speaking(&self.context, Framing::Cbor).await?);
        slave.send_all(&[json!(["", "g_slave"]), json!(["", "g_slave", {}])]).await?;
        slave.barrier().await?;
        Ok(slave)
    }

    /// Reconnects a node whose connection was just closed; it has sent nothing yet.
    pub(super) async fn stranger_again(&self, name: &str) -> Verdict<Member> {
        Ok(self.member(self.context.meet_again(name).await?))
    }

    /// A slave of the node, with these entries in addition to its address.
    pub(super) async fn slave(&self, name: &str, entries: Json) -> Verdict<Member> {
        let mut slave = self.stranger(name).await?;
        let database = json!({"'l": {&*slave.me: ["127.0.0.1:1"]}});
        let database = self.with(database, entries);
        slave.send_all(&[json!(["", "g_slave"]), json!(["", "g_slave", database])]).await?;
        slave.barrier().await?;
        Ok(slave)
    }

    /// A slave that has subscribed to the family and received its content.
    pub(super) async fn subscriber(&self, name: &str) -> Verdict<Member> {
        let mut slave = self.slave(name, json!({})).await?;
        slave.send(json!(["", "g_mon1", self.name])).await?;
        slave.expect(json!(["", "g_chg1", self.name, ANY])).await?;
        Ok(slave)
    }

    /// Another global node, with these entries of its slaves. Its address leads nowhere.
    pub(super) async fn other_global(&self, name: &str, entries: Json) -> Verdict<Member> {
        let mut global = self.stranger(name).await?;
        // Otherwise the node would not be global.
        global.send_all(&[json!(["", "g_slave"]), json!(["", "g_global"])]).await?;
        global.expect(json!(["", "g_global"])).await?;
        let (me, node) = (&*global.me, &*global.node);
        let database = json!({"'l": {me: ["127.0.0.1:1"]}, "'g": {me: null, node: null}});
        let database = self.with(database, entries);
        global.send(json!(["", "g_set", database])).await?;
        global.barrier().await?;
        Ok(global)
    }

    fn with(&self, mut database: Json, entries: Json) -> Json {
        if entries.as_object().is_some_and(|entries| !entries.is_empty()) {
            database[&self.name] = entries;
        }
        database
    }
}

/// A node of the suite that uses the family.
pub(super) struct Member {
    session: Session,
    family: String,
}

impl Deref for Member {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Member {
    pub(super) async fn close(self) {
        self.session.close().await;
    }

    pub(super) async fn updates(&mut self, set: Json, deleted: Json) -> Verdict {
        let update = json!(["", "g_upd", self.family, set, deleted]);
        self.send(update).await
    }

    pub(super) async fn sets(&mut self, entries: Json) -> Verdict {
        self.updates(entries, json!([])).await
    }

    pub(super) async fn deletes(&mut self, key: &str) -> Verdict {
        self.updates(Json::Null, json!([key])).await
    }

    /// The next change that it is sent as a subscriber.
    pub(super) async fn is_told(&mut self, set: Json, deleted: Json) -> Verdict {
        self.gets("g_chg2", set, deleted).await
    }

    /// As a subscriber it is sent these entries, and no deletion.
    pub(super) async fn sees(&mut self, entries: Json) -> Verdict {
        self.is_told(entries, json!([])).await
    }

    /// As a subscriber it is sent the deletion of this key, and nothing else.
    pub(super) async fn sees_deleted(&mut self, key: &str) -> Verdict {
        self.is_told(json!({}), json!([key])).await
    }

    /// The same where the node may keep the entry for a while, as another node may still claim it.
    pub(super) async fn sees_deleted_at_last(&mut self, key: &str) -> Verdict {
        let within = self.patience + GRACE;
        let kind = json!(["", "g_chg2", self.family, REST]);
        let told = self.expect_within(kind, within).await?;
        let wanted = json!(["", "g_chg2", self.family, {}, [key]]);
        ensure(pattern::matches_packet(&wanted, &told), || {
            format!("{} came instead of {wanted}", show_packet(&told))
        })
    }

    /// As a global node it is sent these entries, and no deletion.
    pub(super) async fn hears(&mut self, entries: Json) -> Verdict {
        self.gets("g_upd", entries, json!([])).await
    }

    /// As a global node it is sent the deletion of this key, and nothing else.
    pub(super) async fn hears_deleted(&mut self, key: &str) -> Verdict {
        self.gets("g_upd", json!({}), json!([key])).await
    }

    async fn gets(&mut self, request: &str, set: Json, deleted: Json) -> Verdict {
        let kind = json!(["", request, self.family, REST]);
        let wanted = json!(["", request, self.family, set, deleted]);
        self.expect_first(kind, wanted).await?;
        Ok(())
    }

    /// It is sent nothing more, checked after everything that `by` sent has taken effect.
    pub(super) async fn is_told_nothing_of(&mut self, by: &mut Session) -> Verdict {
        by.barrier().await?;
        self.is_told_nothing().await
    }

    pub(super) async fn is_told_nothing(&mut self) -> Verdict {
        let any = json!(["", ANY, self.family, REST]);
        self.nothing(any).await
    }

    /// The family's content as it gets it from a query has to be this.
    pub(super) async fn finds(&mut self, wanted: Json) -> Verdict {
        let found = self.session.family(&self.family).await?;
        ensure(found == wanted, || format!("the family is {found}, and should be {wanted}"))
    }

    /// Like [`Member::finds`], but retries for a while, since entries of a lost node disappear with a delay.
    pub(super) async fn finds_at_last(&mut self, wanted: Json) -> Verdict {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let found = self.session.family(&self.family).await?;
            if found == wanted {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return miss(format!("the family stays {found}, and should become {wanted}"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
