//! The global database as programs use it: entries with guards, queries as futures, changes as a
//! stream.

use super::core::Shared;
use super::{CallbackPort, Node, queue};
use crate::kernel::db::{
    ChangeSet, Datum, DbMonitorId, DbResult, InternalFamily, QueryError, QueryId, QueryKind,
    SetError, Unsendable,
};
use crate::value::{DecodeError, EncodeError, PortId, Str, Value, from_value, put_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use thiserror::Error;

/// Why an entry was not set, or a query has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DbError {
    /// Families that begin with `'` are the protocol's own.
    #[error(transparent)]
    Internal(#[from] InternalFamily),
    /// The entry could not be sent to all nodes.
    #[error("cannot set: {0}")]
    Unsendable(#[from] Unsendable),
    /// The value has no form in Perl's data model.
    #[error("cannot set: {0}")]
    Encode(#[from] EncodeError),
    /// The query has no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer is not what was asked for.
    #[error("unexpected value: {0}")]
    Decode(#[from] DecodeError),
    /// The answer was for something else, or the node was shut down.
    #[error("no answer: the node was shut down")]
    Shutdown,
}

impl From<SetError> for DbError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Internal(error) => error.into(),
            SetError::Unsendable(error) => error.into(),
        }
    }
}

/// The database as this node sees it: family -> key -> value, each entry owned by the node that
/// set it, and gone with that node.
///
/// Families and keys are any strings; families that begin with `'` can be read, not written. Values
/// are what messages are made of.
#[derive(Debug, Clone)]
pub struct Db {
    node: Node,
}

impl Node {
    /// The global database.
    pub fn db(&self) -> Db {
        Db { node: self.clone() }
    }
}

impl Db {
    fn shared(&self) -> &Arc<Shared> {
        self.node.shared()
    }

    /// Sets an entry of this node. What Perl calls `db_set`.
    ///
    /// # Errors
    /// Fails for internal families, for values without a form in Perl's data model, and for entries that
    /// could not be sent to all nodes ([`DbError::Unsendable`]).
    pub fn set(
        &self,
        family: impl Into<Str>,
        key: impl Into<Str>,
        value: impl Serialize,
    ) -> Result<(), DbError> {
        let value = datum(&value)?;
        let (family, key) = (family.into(), key.into());
        Ok(self.shared().kernel(|kernel| kernel.set(&family, key, value))?)
    }

    /// Deletes entries of this node; those of others stay. What Perl calls `db_del`.
    ///
    /// # Errors
    /// Fails for internal families.
    pub fn delete<K: Into<Str>>(
        &self,
        family: impl Into<Str>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), DbError> {
        let family = family.into();
        let keys: Vec<Str> = keys.into_iter().map(Into::into).collect();
        Ok(self.shared().kernel(|kernel| kernel.delete(&family, keys))?)
    }

    /// Sets an entry for as long as the guard lives.
    ///
    /// # Errors
    /// As [`Db::set`].
    pub fn hold(
        &self,
        family: impl Into<Str>,
        key: impl Into<Str>,
        value: impl Serialize,
    ) -> Result<Entry, DbError> {
        let (family, key) = (family.into(), key.into());
        self.set(family.clone(), key.clone(), value)?;
        Ok(Entry { shared: Arc::downgrade(self.shared()), entry: Some((family, key)), death: None })
    }

    /// Enters a port into a family, with its ID as the key, until the port dies or the guard is
    /// dropped. What Perl calls `db_reg`.
    ///
    /// # Errors
    /// As [`Db::set`].
    pub fn register(&self, family: impl Into<Str>, port: impl PortRef) -> Result<Entry, DbError> {
        self.register_with(family, port, ())
    }

    /// As [`Db::register`], with a value: what others should know of the port before they use it.
    /// What Perl calls `db_reg` with three arguments.
    ///
    /// # Errors
    /// As [`Db::set`].
    pub fn register_with(
        &self,
        family: impl Into<Str>,
        port: impl PortRef,
        value: impl Serialize,
    ) -> Result<Entry, DbError> {
        let port = port.port_id();
        let family = family.into();
        let key = Str::from(port.clone());
        let mut entry = self.hold(family.clone(), key.clone(), value)?;
        let shared = Arc::downgrade(self.shared());
        entry.death = Some(self.node.on_death(&port, move |_| {
            if let Some(shared) = shared.upgrade() {
                // An internal family was refused when the entry was set.
                let _ = shared.kernel(|kernel| kernel.delete(&family, [key]));
            }
        }));
        Ok(entry)
    }

    async fn ask(
        &self,
        query: impl FnOnce(&mut crate::kernel::Kernel) -> QueryId,
    ) -> Result<DbResult, DbError> {
        let (id, mut answer) = self.shared().query(query);
        let _cancel = CancelQuery { shared: self.shared().clone(), id };
        Ok(answer.next().await.ok_or(DbError::Shutdown)??)
    }

    /// A whole family: its keys and values. An unknown family is empty. What Perl calls
    /// `db_family`.
    ///
    /// # Errors
    /// Fails if no global node is connected within `monitor_timeout`, or a value is something else.
    pub async fn family<V: DeserializeOwned>(
        &self,
        family: impl Into<Str>,
    ) -> Result<BTreeMap<Str, V>, DbError> {
        let family = family.into();
        match self.ask(|kernel| kernel.query(QueryKind::Family, &family)).await? {
            DbResult::Family(entries) => {
                entries.iter().map(|(key, value)| Ok((key.clone(), decode(value)?))).collect()
            }
            _ => Err(DbError::Shutdown),
        }
    }

    /// The keys of a family. What Perl calls `db_keys`.
    ///
    /// # Errors
    /// Fails if no global node is connected within `monitor_timeout`.
    pub async fn keys(&self, family: impl Into<Str>) -> Result<Vec<Str>, DbError> {
        let family = family.into();
        match self.ask(|kernel| kernel.query(QueryKind::Keys, &family)).await? {
            DbResult::Keys(keys) => Ok(keys),
            _ => Err(DbError::Shutdown),
        }
    }

    /// The values of a family. What Perl calls `db_values`.
    ///
    /// # Errors
    /// As [`Db::family`].
    pub async fn values<V: DeserializeOwned>(
        &self,
        family: impl Into<Str>,
    ) -> Result<Vec<V>, DbError> {
        let family = family.into();
        match self.ask(|kernel| kernel.query(QueryKind::Values, &family)).await? {
            DbResult::Values(values) => values.iter().map(decode).collect(),
            _ => Err(DbError::Shutdown),
        }
    }

    /// The value of one key, if it is set.
    ///
    /// # Errors
    /// As [`Db::family`].
    pub async fn get<V: DeserializeOwned>(
        &self,
        family: impl Into<Str>,
        key: impl Into<Str>,
    ) -> Result<Option<V>, DbError> {
        let (family, key) = (family.into(), key.into());
        match self.ask(|kernel| kernel.get(&family, &key)).await? {
            DbResult::Value(value) => value.as_ref().map(decode).transpose(),
            _ => Err(DbError::Shutdown),
        }
    }

    /// Waits until a family has a key, and gives one of them: how a program finds a service that
    /// may not be there yet. `None` once the node was shut down.
    ///
    /// What it finds may be gone in the next moment; [monitor](Node::monitor) it.
    pub async fn wait_for_key(&self, family: impl Into<Str>) -> Option<Str> {
        let mut changes = self.monitor(family);
        while let Some(change) = changes.next().await {
            if let Some((key, _)) = change.added().next() {
                return Some(key.clone());
            }
        }
        None
    }

    /// Monitors a family: a stream of changes that begins with the whole content as added. What
    /// Perl calls `db_mon`.
    ///
    /// It is set when this returns, and goes on through changes of master.
    ///
    /// A key is reported as deleted at once when its owner deletes it, or when the owner's master loses
    /// the connection to the owner. When the master itself is lost (whichever global node that is, and
    /// whatever this node's own master is), its slaves go to another one, and their entries are expected
    /// to be there again soon: for a [grace](crate::NodeBuilder::grace) of 10 s keys are not reported as
    /// deleted, and what comes back in time with the same value is not reported at all. What does not come
    /// back is reported when the grace ends; earlier if
    ///
    /// - all other slaves of the lost node have come to another global node, or are known to be lost,
    ///   and nothing has come back for 2 s, or
    /// - this node's own master was the one that was lost, and the key is the ID of a port (as
    ///   [`Db::register`] sets it) whose node this node has lost too.
    ///
    /// Entries that the lost global node set itself cannot be told from those of its slaves; they are
    /// treated like them if it had any. While this node has no master nothing is reported; the grace
    /// begins when the next master has answered. If this node's master is a Perl node, that one
    /// reports what slaves of other global nodes own as deleted as soon as such a node is lost, and
    /// the entries are added again later.
    pub fn monitor(&self, family: impl Into<Str>) -> DbMonitor {
        let (id, changes) = self.shared().monitor_family(&family.into());
        DbMonitor { shared: self.shared().clone(), id, changes }
    }
}

/// Something that has a port's ID, for [`Db::register`].
pub trait PortRef {
    /// The ID.
    fn port_id(&self) -> PortId;
}

impl PortRef for PortId {
    fn port_id(&self) -> PortId {
        self.clone()
    }
}

impl PortRef for super::Port {
    fn port_id(&self) -> PortId {
        self.id()
    }
}

impl PortRef for CallbackPort {
    fn port_id(&self) -> PortId {
        self.id()
    }
}

impl<P: PortRef + ?Sized> PortRef for &P {
    fn port_id(&self) -> PortId {
        (**self).port_id()
    }
}

fn datum(value: &impl Serialize) -> Result<Datum, EncodeError> {
    let mut octets = Vec::new();
    put_value(&mut octets, value)?;
    Ok(Datum::trusted(&octets))
}

fn decode<V: DeserializeOwned>(value: &Datum) -> Result<V, DbError> {
    Ok(from_value(&mut crate::value::packed::Reader::new(value.octets()))?)
}

struct CancelQuery {
    shared: Arc<Shared>,
    id: QueryId,
}

impl Drop for CancelQuery {
    fn drop(&mut self) {
        self.shared.cancel_query(self.id);
    }
}

/// An entry that is deleted when this is dropped.
#[must_use = "dropping it deletes the entry"]
pub struct Entry {
    shared: Weak<Shared>,
    entry: Option<(Str, Str)>,
    death: Option<super::MonitorGuard>,
}

impl Entry {
    /// Leaves the entry set until the node ends, or its port dies.
    pub fn detach(mut self) {
        self.entry = None;
        if let Some(death) = self.death.take() {
            death.detach();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let (Some((family, key)), Some(shared)) = (self.entry.take(), self.shared.upgrade()) {
            // An internal family was refused when the entry was set.
            let _ = shared.kernel(|kernel| kernel.delete(&family, [key]));
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// How a family changed.
#[derive(Debug, Clone)]
pub struct Change {
    set: ChangeSet,
}

impl Change {
    /// The family.
    pub fn family(&self) -> &Str {
        &self.set.family
    }

    /// Whether this is the first report: the whole content, as added.
    pub fn is_initial(&self) -> bool {
        self.set.initial
    }

    /// The keys that were not there before, with their values.
    pub fn added(&self) -> impl Iterator<Item = (&Str, Value)> {
        self.set.added.iter().map(|(key, value)| (key, dynamic(value)))
    }

    /// The keys that have a new value.
    pub fn changed(&self) -> impl Iterator<Item = (&Str, Value)> {
        self.set.changed.iter().map(|(key, value)| (key, dynamic(value)))
    }

    /// The keys that are gone.
    pub fn deleted(&self) -> impl Iterator<Item = &Str> {
        self.set.deleted.iter()
    }

    /// The new value of a key as a Rust value, if the change sets it.
    ///
    /// # Errors
    /// Fails if the value is something else.
    pub fn value<V: DeserializeOwned>(&self, key: &Str) -> Result<Option<V>, DbError> {
        let value = self.set.added.get(key).or_else(|| self.set.changed.get(key));
        value.map(decode).transpose()
    }
}

fn dynamic(value: &Datum) -> Value {
    decode(value).unwrap_or(Value::Undef)
}

/// The changes of a family; dropping it ends the monitor.
///
/// If more than 1000 changes or 1 MiB wait for a listener, later ones are combined into one: it learns
/// exactly what the content is in the end, but not what happened in between.
pub struct DbMonitor {
    shared: Arc<Shared>,
    id: DbMonitorId,
    changes: queue::Receiver<ChangeSet>,
}

impl DbMonitor {
    /// Waits for the next change; `None` once the node was shut down.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.next().await.map(|set| Change { set })
    }
}

impl futures_core::Stream for DbMonitor {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_next(cx).map(|set| set.map(|set| Change { set }))
    }
}

impl Drop for DbMonitor {
    fn drop(&mut self) {
        self.shared.unmonitor_family(self.id);
    }
}

impl fmt::Debug for DbMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbMonitor").field("id", &self.id).finish_non_exhaustive()
    }
}
