//! The database's node requests as typed values.

use super::arguments::{Arguments, MalformedRequest};
use super::datum::Datum;
use super::entries::{Entries, Tables};
use crate::value::packed::{self, Elements};
use crate::value::{NodeId, Packed, Str, StrRef};

/// A node request of the global database (docs/protocol.md §5).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// `g_slave`: the sender wants this node to become global. With a database, it also makes this node
    /// its master.
    Slave(Option<Tables>),
    /// `g_set`: the entries of the slaves of another global node, itself included.
    Set(Tables),
    /// `g_upd`: a change of the sender's own database. Keys are set before keys are deleted.
    Update {
        /// The family.
        family: Str,
        /// The keys to set. If there are none, slaves send null and global nodes `{}`.
        set: Option<Entries>,
        /// The keys to delete. If there are none, slaves leave the argument out and global nodes send
        /// `[]`.
        delete: Option<Vec<Str>>,
    },
    /// `g_find`: a slave asks for the addresses of a node.
    Find(NodeId),
    /// `g_found`: the answer; null if no addresses are known.
    Found {
        /// The node asked for.
        node: NodeId,
        /// Its addresses.
        addresses: Option<Vec<Str>>,
    },
    /// `g_db_family`, `g_db_keys`, `g_db_values`: a slave asks for the content of a family.
    Query {
        /// What is requested.
        kind: QueryKind,
        /// The family.
        family: Str,
        /// An ID that the reply repeats.
        id: Datum,
    },
    /// `g_get`: a slave asks for the value of one key. Sent only to nodes whose greeting announces
    /// support.
    Get {
        /// The family.
        family: Str,
        /// The key.
        key: Str,
        /// An ID that the reply repeats.
        id: Datum,
    },
    /// `g_reply`: the answer to a query.
    Reply {
        /// The ID of the query.
        id: Datum,
        /// A hash or an array; the reply to `g_get` is an array, empty or with the value.
        result: Datum,
    },
    /// `g_mon1`: a slave subscribes to a family.
    Monitor(Str),
    /// `g_mon0`: a slave ends its subscription.
    Unmonitor(Str),
    /// `g_chg1`: the whole content of a family; null if it is empty.
    Family {
        /// The family.
        family: Str,
        /// Its content.
        content: Option<Entries>,
    },
    /// `g_chg2`: a change of a family. Keys are set before keys are deleted.
    Changed {
        /// The family.
        family: Str,
        /// The keys to set.
        set: Entries,
        /// The keys to delete.
        delete: Vec<Str>,
    },
    /// `g_global`: the sender is a global node.
    Global,
}

/// The part of a family that is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Its keys and values.
    Family,
    /// Its keys.
    Keys,
    /// Its values.
    Values,
}

/// The names of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Slave,
    Set,
    Update,
    Find,
    Found,
    Query(QueryKind),
    Get,
    Reply,
    Monitor,
    Unmonitor,
    Family,
    Changed,
    Global,
}

impl Name {
    pub(crate) fn known(name: StrRef<'_>) -> Option<Name> {
        // All names are ASCII, so comparing octets is enough.
        Some(match name.data() {
            b"g_slave" => Name::Slave,
            b"g_set" => Name::Set,
            b"g_upd" => Name::Update,
            b"g_find" => Name::Find,
            b"g_found" => Name::Found,
            b"g_db_family" => Name::Query(QueryKind::Family),
            b"g_db_keys" => Name::Query(QueryKind::Keys),
            b"g_db_values" => Name::Query(QueryKind::Values),
            b"g_reply" => Name::Reply,
            b"g_mon1" => Name::Monitor,
            b"g_mon0" => Name::Unmonitor,
            b"g_chg1" => Name::Family,
            b"g_chg2" => Name::Changed,
            b"g_get" => Name::Get,
            b"g_global" => Name::Global,
            _ => return None,
        })
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Name::Slave => "g_slave",
            Name::Set => "g_set",
            Name::Update => "g_upd",
            Name::Find => "g_find",
            Name::Found => "g_found",
            Name::Query(QueryKind::Family) => "g_db_family",
            Name::Query(QueryKind::Keys) => "g_db_keys",
            Name::Query(QueryKind::Values) => "g_db_values",
            Name::Reply => "g_reply",
            Name::Monitor => "g_mon1",
            Name::Unmonitor => "g_mon0",
            Name::Family => "g_chg1",
            Name::Changed => "g_chg2",
            Name::Get => "g_get",
            Name::Global => "g_global",
        }
    }
}

impl Request {
    /// Whether the database has a request of this name.
    pub fn is_known(name: StrRef<'_>) -> bool {
        Name::known(name).is_some()
    }

    /// Parses the request `name` from the elements that follow it; `None` if the database has no request
    /// of this name. Additional arguments are ignored.
    /// # Errors
    /// An argument is missing or of the wrong kind.
    pub fn parse(
        name: StrRef<'_>,
        arguments: Elements<'_>,
    ) -> Option<Result<Request, MalformedRequest>> {
        Some(Request::parse_known(Name::known(name)?, arguments))
    }

    pub(crate) fn parse_known(
        request: Name,
        arguments: Elements<'_>,
    ) -> Result<Request, MalformedRequest> {
        Arguments::new(request, arguments).parse()
    }

    /// The request's name.
    pub const fn name(&self) -> &'static str {
        let name = match self {
            Request::Slave(_) => Name::Slave,
            Request::Set(_) => Name::Set,
            Request::Update { .. } => Name::Update,
            Request::Find(_) => Name::Find,
            Request::Found { .. } => Name::Found,
            Request::Query { kind, .. } => Name::Query(*kind),
            Request::Get { .. } => Name::Get,
            Request::Reply { .. } => Name::Reply,
            Request::Monitor(_) => Name::Monitor,
            Request::Unmonitor(_) => Name::Unmonitor,
            Request::Family { .. } => Name::Family,
            Request::Changed { .. } => Name::Changed,
            Request::Global => Name::Global,
        };
        name.as_str()
    }

    /// Appends the elements of the node request, its name first, and returns how many there are.
    ///
    /// Names are octet strings as Perl sends them; families, keys and values go out as they came.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        packed::put_octets(out, self.name().as_bytes());
        match self {
            Request::Global | Request::Slave(None) => 1,
            Request::Slave(Some(tables)) | Request::Set(tables) => {
                put_tables(out, tables);
                2
            }
            Request::Update { family, set, delete } => {
                packed::put_str(out, family.as_ref());
                match set {
                    Some(set) => set.put(out),
                    None => packed::put_undef(out),
                }
                match delete {
                    Some(keys) => {
                        put_strings(out, keys);
                        4
                    }
                    None => 3,
                }
            }
            Request::Find(node) => {
                packed::put_str(out, node.as_str());
                2
            }
            Request::Found { node, addresses } => {
                packed::put_str(out, node.as_str());
                match addresses {
                    Some(addresses) => put_strings(out, addresses),
                    None => packed::put_undef(out),
                }
                3
            }
            Request::Query { family, id, .. } => {
                packed::put_str(out, family.as_ref());
                out.extend_from_slice(id.octets());
                3
            }
            Request::Get { family, key, id } => {
                packed::put_str(out, family.as_ref());
                packed::put_str(out, key.as_ref());
                out.extend_from_slice(id.octets());
                4
            }
            Request::Reply { id, result } => {
                out.extend_from_slice(id.octets());
                out.extend_from_slice(result.octets());
                3
            }
            Request::Monitor(family) | Request::Unmonitor(family) => {
                packed::put_str(out, family.as_ref());
                2
            }
            Request::Family { family, content } => {
                packed::put_str(out, family.as_ref());
                match content {
                    Some(content) => content.put(out),
                    None => packed::put_undef(out),
                }
                3
            }
            Request::Changed { family, set, delete } => {
                packed::put_str(out, family.as_ref());
                set.put(out);
                put_strings(out, delete);
                4
            }
        }
    }

    /// The packet for a node port, ready to be sent to any number of nodes.
    pub fn to_packet(&self) -> Packed {
        let mut octets = Vec::with_capacity(TYPICAL_SIZE);
        packed::put_octets(&mut octets, b"");
        let len = self.encode(&mut octets);
        Packed::new(1 + len, octets.into())
    }
}

/// How much room packets usually need.
const TYPICAL_SIZE: usize = 96;

pub(super) fn put_strings(out: &mut Vec<u8>, strings: &[Str]) {
    packed::put_array(out, strings.len());
    strings.iter().for_each(|string| packed::put_str(out, string.as_ref()));
}

fn put_tables(out: &mut Vec<u8>, tables: &Tables) {
    packed::put_hash(out, tables.len());
    for (family, entries) in tables {
        packed::put_str(out, family.as_ref());
        entries.put(out);
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
