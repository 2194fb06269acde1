//! Questions of nodes about whole families: queries, and the first report of a monitor. A large family is
//! read in parts, and the question counts as asked when the last part has been read.

use super::super::datum::Datum;
use super::super::effect::{DbEffect, DbProblem};
use super::super::entries::Entries;
use super::super::merge::{Content, Progress, Reading};
use super::super::request::{Name, QueryKind, Request};
use super::{Around, Global};
use crate::kernel::LARGE_PACKET;
use crate::value::{NodeId, Packed, Str, packed};

/// What a node wants to know of a family.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// A part of its content; with the ID of the query.
    Content(QueryKind, Datum),
    /// Its content, and all changes from then on.
    Changes,
}

/// A question that is being answered.
#[derive(Debug)]
pub(crate) struct Question {
    family: Str,
    wanted: Wanted,
    reading: Reading,
}

/// The answer to a question about a family, as data: to make a packet of a large one takes long.
#[derive(Debug, Clone)]
pub(crate) struct FamilyAnswer {
    family: Str,
    wanted: Wanted,
    content: Content,
}

impl FamilyAnswer {
    /// The octets of the packet in packed form, or some more.
    pub(crate) fn octets(&self) -> usize {
        const OVERHEAD: usize = 64;
        let (keys, values) = self.content.octets();
        let (name, entries) = match &self.wanted {
            Wanted::Changes => (self.family.as_ref().data().len(), keys + values),
            Wanted::Content(kind, id) => {
                let entries = match kind {
                    QueryKind::Family => keys + values,
                    QueryKind::Keys => keys,
                    QueryKind::Values => values,
                };
                (id.octets().len(), entries)
            }
        };
        OVERHEAD + name + entries
    }

    /// The packet for a node port.
    pub(crate) fn to_packet(&self) -> Packed {
        let mut out = Vec::with_capacity(self.octets());
        packed::put_octets(&mut out, b"");
        let entries = self.content.entries();
        match &self.wanted {
            Wanted::Content(kind, id) => {
                packed::put_octets(&mut out, Name::Reply.as_str().as_bytes());
                out.extend_from_slice(id.octets());
                put_content(*kind, &entries, &mut out);
            }
            Wanted::Changes => {
                packed::put_octets(&mut out, Name::Family.as_str().as_bytes());
                packed::put_str(&mut out, self.family.as_ref());
                match entries.is_empty() {
                    true => packed::put_undef(&mut out),
                    false => put_content(QueryKind::Family, &entries, &mut out),
                }
            }
        }
        Packed::new(4, out.into())
    }

    /// The same as a request, for this node itself.
    fn to_request(&self) -> Request {
        let entries = self.content.entries();
        match &self.wanted {
            Wanted::Content(kind, id) => {
                let result = Datum::build(|out| put_content(*kind, &entries, out));
                Request::Reply { id: id.clone(), result }
            }
            Wanted::Changes => {
                let content: Entries =
                    entries.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                let content = (!content.is_empty()).then_some(content);
                Request::Family { family: self.family.clone(), content }
            }
        }
    }
}

fn put_content(kind: QueryKind, entries: &[(&Str, &Datum)], out: &mut Vec<u8>) {
    match kind {
        QueryKind::Family => packed::put_hash(out, entries.len()),
        QueryKind::Keys | QueryKind::Values => packed::put_array(out, entries.len()),
    }
    for (key, value) in entries {
        if kind != QueryKind::Values {
            packed::put_str(out, key.as_ref());
        }
        if kind != QueryKind::Keys {
            out.extend_from_slice(value.octets());
        }
    }
}

impl Global {
    /// Answers a question, or begins to: the rest is left in `unfinished`.
    pub(super) fn ask(
        &mut self,
        from: &NodeId,
        wanted: Wanted,
        family: Str,
        around: &mut Around<'_>,
    ) {
        let reading = self.merge.begin_to_read(from, family.clone());
        let mut question = Question { family, wanted, reading };
        while self.go_on_answering(from, &mut question, around) {
            // This node's own questions are not divided.
            if *from != self.own {
                self.unfinished = Some(question);
                return;
            }
        }
    }

    /// Reads the next part of the family, and answers after the last one. Returns whether there is more
    /// to do.
    pub(crate) fn go_on_answering(
        &mut self,
        from: &NodeId,
        question: &mut Question,
        around: &mut Around<'_>,
    ) -> bool {
        let content = match self.merge.read_part(&mut question.reading) {
            Progress::More => return true,
            Progress::Cancelled => return false,
            Progress::Complete(content) => content,
        };
        let Question { family, wanted, .. } = question;
        if matches!(wanted, Wanted::Changes) && !self.subscribe(from, family) {
            around.problem(from, DbProblem::TooMuch("g_mon1", "peer_limit"));
            return false;
        }
        // Changes of other families may have been held back meanwhile.
        self.flush(from, around);
        let answer = FamilyAnswer { family: family.clone(), wanted: wanted.clone(), content };
        if *from == self.own {
            around.local.receive(&self.own, answer.to_request(), around.now, around.effects);
        } else if answer.octets() <= LARGE_PACKET {
            let packet = answer.to_packet();
            around.effects.push(DbEffect::Send { to: [from.clone()].into(), packet });
        } else {
            let packets = Box::new(answer.into());
            around.effects.push(DbEffect::SendLater { to: from.clone(), packets });
        }
        false
    }

    /// What is left of the last question, if it is to be answered in parts.
    pub(crate) fn take_unfinished(&mut self) -> Option<Question> {
        self.unfinished.take()
    }
}
