//! The fixture `Service`: a port of the test service on the node, and what the suite makes it do.

use super::REST;
use crate::conform::context::Ctx;
use crate::conform::session::{Packet, Session};
use crate::conform::stop::Verdict;
use serde_json::{Value as Json, json};
use std::ops::{Deref, DerefMut};

/// A connection with the node, and the name of the service's port.
pub(super) struct Service {
    session: Session,
    pub(super) port: String,
}

impl Deref for Service {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Service {
    /// On a new connection, with a new port.
    pub(super) async fn met(c: &Ctx) -> Verdict<Service> {
        c.service()?;
        Service::spawned(c, c.meet("a").await?).await
    }

    /// With a new port, which greets with its name.
    pub(super) async fn spawned(c: &Ctx, mut session: Session) -> Verdict<Service> {
        let (function, port) = (c.service()?, c.port_name());
        let to = session.port("service");
        session.send(json!(["", "AnyEvent::MP::_spawn", port, function, to, "up", port])).await?;
        session.expect(json!(["service", "up", port])).await?;
        Ok(Service { session, port })
    }

    /// On another connection, with the existing port.
    pub(super) fn shared(c: &Ctx, session: Session) -> Service {
        Service { session, port: c.port_name() }
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }

    /// Sends the port a message: a tag and its arguments.
    pub(super) async fn lets(&mut self, message: Json) -> Verdict {
        let packet = joined(&[&self.port], &message);
        self.send(packet).await
    }

    /// Makes the port monitor a port of ours, and report to another one of ours when the monitor fires.
    pub(super) async fn lets_monitor(&mut self, label: &str, port: &str) -> Verdict {
        let message = json!(["mon", label, self.port(port), self.port("fired")]);
        self.lets(message).await
    }

    /// Sends a request about the port: the request's name, the port's name, then these elements.
    async fn about(&mut self, request: &str, rest: Json) -> Verdict {
        let packet = joined(&["", request, &self.port], &rest);
        self.send(packet).await
    }

    pub(super) async fn monitors(&mut self) -> Verdict {
        self.about("mon1", json!([])).await
    }

    pub(super) async fn kills(&mut self, reason: Json) -> Verdict {
        self.about("kil1", reason).await
    }

    /// The connection is told that the port has died, with exactly this reason.
    pub(super) async fn is_told_of_death(&mut self, reason: Json) -> Verdict {
        let wanted = joined(&["", "kil0", &self.port], &reason);
        let any = joined(&["", "kil0", &self.port], &json!([REST]));
        self.expect_first(any, wanted).await?;
        Ok(())
    }

    /// How often the connection has been told that the port has died.
    pub(super) async fn deaths(&mut self) -> Verdict<Vec<Packet>> {
        let any = joined(&["", "kil0", &self.port], &json!([REST]));
        self.all(any).await
    }

    /// The connection is not told that the port has died.
    pub(super) async fn is_told_of_no_death(&mut self) -> Verdict {
        let any = joined(&["", "kil0", &self.port], &json!([REST]));
        self.nothing(any).await
    }
}

/// A packet that begins with these names, followed by the elements.
fn joined(names: &[&str], rest: &Json) -> Json {
    let names = names.iter().map(|&name| json!(name));
    names.chain(rest.as_array().into_iter().flatten().cloned()).collect()
}
