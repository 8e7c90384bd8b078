//! The table of UPDATE errors: every rule is triggered by a message, has the verdict of the table,
//! and is in `docs/update-errors.md`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use bgp::Asn;
use bgp::wire::WireError;
use bgp::wire::as_path::AsWidth;
use bgp::wire::attribute::{AttributeRule, Context, RULES, UpdateVerdict, code, flag, push};
use bgp::wire::update::UpdateView;

const EXTERNAL: Context = Context { internal: false, first_as: Some(Asn(65001)), ..Context::INTERNAL };
const INTERNAL: Context = Context { internal: true, first_as: None, ..EXTERNAL };
const NARROW: Context = Context { as_width: AsWidth::Two, ..INTERNAL };
const OT: u8 = flag::OPTIONAL | flag::TRANSITIVE;
const PATH: &[u8] = &[2, 1, 0, 0, 0xfd, 0xe9];

/// UPDATE that announces 192.0.2.0/24, with parts to be replaced by a case.
struct Message {
    attributes: Vec<(u8, u8, Vec<u8>)>,
    withdrawn: Vec<u8>,
    nlri: Vec<u8>,
    context: Context,
}

impl Message {
    fn new(context: &Context) -> Message {
        let path = if context.as_width == AsWidth::Two { vec![2, 1, 0xfd, 0xe9] } else { PATH.to_vec() };
        Message {
            attributes: vec![
                (flag::WELL_KNOWN, code::ORIGIN, vec![0]),
                (flag::WELL_KNOWN, code::AS_PATH, path),
                (flag::WELL_KNOWN, code::NEXT_HOP, vec![10, 99, 0, 2]),
            ],
            withdrawn: Vec::new(),
            nlri: vec![24, 192, 0, 2],
            context: *context,
        }
    }

    /// Returns a message with one attribute, which replaces that of its type.
    fn with(context: &Context, flags: u8, code: u8, value: &[u8]) -> Message {
        Message::without(context, code).and(flags, code, value)
    }

    fn without(context: &Context, code: u8) -> Message {
        let mut message = Message::new(context);
        message.attributes.retain(|(_, other, _)| *other != code);
        message
    }

    fn and(mut self, flags: u8, code: u8, value: &[u8]) -> Message {
        self.attributes.push((flags, code, value.to_vec()));
        self
    }

    fn octets(&self) -> Vec<u8> {
        let mut attributes = Vec::new();
        for (flags, code, value) in &self.attributes {
            push(&mut attributes, *flags, *code, |out| out.extend(value));
        }
        let mut body = (self.withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend(&self.withdrawn);
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend(&self.nlri);
        body
    }
}

/// Returns the violated rule and the verdict.
fn read(body: &[u8], context: &Context) -> (Option<u8>, &'static str, UpdateVerdict) {
    match UpdateView::parse(body).and_then(|view| view.read(context)) {
        Ok(update) => {
            let fault = update.fault.expect("a fault");
            (fault.attribute, fault.rule, fault.verdict)
        }
        Err(WireError { attribute, rule, .. }) => (attribute, rule, UpdateVerdict::SessionReset),
    }
}

fn messages() -> Vec<Message> {
    let mut all = vec![
        Message { withdrawn: vec![33, 1, 2, 3, 4, 5], ..Message::new(&EXTERNAL) },
        Message { nlri: vec![24, 1, 2], ..Message::new(&EXTERNAL) },
        Message::with(&EXTERNAL, 0x40, 99, &[1]),
    ];
    // Wrong flags of every type: the opposite of both bits.
    let types = RULES.iter().filter_map(|rule| rule.attribute).collect::<BTreeSet<_>>();
    for code in types {
        let flags = match code {
            1 | 2 | 3 | 5 | 6 => flag::OPTIONAL,
            _ => flag::WELL_KNOWN,
        };
        all.push(Message::with(&NARROW, flags, code, &[1]));
    }
    for code in [code::ORIGIN, code::AS_PATH, code::NEXT_HOP] {
        all.push(Message::without(&EXTERNAL, code));
    }
    for (context, flags, code, values) in [
        (&EXTERNAL, 0x40, code::ORIGIN, &[&[3][..], &[0, 0]][..]),
        (
            &EXTERNAL,
            0x40,
            code::AS_PATH,
            &[
                &[9, 1, 0, 0, 0xfd, 0xe9],
                &[2],
                &[2, 0],
                &[2, 2, 0, 0, 0xfd, 0xe9],
                &[2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0, 0],
                &[3, 1, 0, 0, 0xfd, 0xe9],
                &[2, 1, 0, 0, 0xfd, 0xea],
                &[],
            ],
        ),
        (
            &EXTERNAL,
            0x40,
            code::NEXT_HOP,
            &[&[1, 2, 3], &[127, 0, 0, 1], &[224, 0, 0, 1], &[0; 4], &[240, 0, 0, 1]],
        ),
        (&EXTERNAL, 0x80, code::MULTI_EXIT_DISC, &[&[], &[1, 2, 3, 4, 5]]),
        (&EXTERNAL, 0x40, code::LOCAL_PREF, &[&[0, 0, 0, 100]]),
        (&INTERNAL, 0x40, code::LOCAL_PREF, &[&[], &[1, 2, 3]]),
        (&EXTERNAL, 0x40, code::ATOMIC_AGGREGATE, &[&[1]]),
        (&EXTERNAL, OT, code::AGGREGATOR, &[&[1, 2, 3, 4, 5, 6], &[0, 0, 0, 0, 1, 2, 3, 4]]),
        (&EXTERNAL, OT, code::COMMUNITIES, &[&[], &[1, 2, 3]]),
        (&EXTERNAL, 0x80, code::ORIGINATOR_ID, &[&[1, 2, 3, 4]]),
        (&INTERNAL, 0x80, code::ORIGINATOR_ID, &[&[1, 2, 3]]),
        (&EXTERNAL, 0x80, code::CLUSTER_LIST, &[&[1, 2, 3, 4]]),
        (&INTERNAL, 0x80, code::CLUSTER_LIST, &[&[], &[1, 2, 3]]),
        (
            &EXTERNAL,
            0x80,
            code::MP_REACH_NLRI,
            &[
                &[0, 2],
                &[0, 2, 1, 16, 1],
                &[0, 1, 1, 4, 1, 2, 3, 4],
                &[0, 1, 1, 3, 1, 2, 3, 0],
                &[0, 1, 1, 4, 127, 0, 0, 1, 0, 8, 9],
                &[0, 1, 1, 4, 1, 2, 3, 4, 0, 33, 1, 2, 3, 4, 5],
            ],
        ),
        (&EXTERNAL, 0x80, code::MP_UNREACH_NLRI, &[&[0], &[0, 2, 1, 129]]),
        (&EXTERNAL, OT, code::EXTENDED_COMMUNITIES, &[&[], &[1; 7]]),
        (&EXTERNAL, OT, code::AS4_PATH, &[PATH]),
        (&NARROW, OT, code::AS4_PATH, &[&[9, 0], &[2], &[2, 0], &[2, 2, 0, 0, 0, 1], &[2, 1, 0, 0, 0, 0]]),
        (&EXTERNAL, OT, code::AS4_AGGREGATOR, &[&[0, 0, 0, 1, 1, 2, 3, 4]]),
        (&NARROW, OT, code::AS4_AGGREGATOR, &[&[1; 7], &[0, 0, 0, 0, 1, 2, 3, 4]]),
        (&EXTERNAL, OT, code::PMSI_TUNNEL, &[&[1; 4]]),
        (&EXTERNAL, OT, code::TUNNEL_ENCAPSULATION, &[&[], &[0, 8, 0, 4, 1]]),
        (&EXTERNAL, OT, code::IPV6_EXTENDED_COMMUNITIES, &[&[], &[1; 19]]),
        (&EXTERNAL, OT, code::LARGE_COMMUNITIES, &[&[], &[1; 13]]),
        (&EXTERNAL, OT, code::ONLY_TO_CUSTOMER, &[&[], &[1; 8]]),
        (&EXTERNAL, OT, code::PREFIX_SID, &[&[], &[0; 8], &[3, 0, 9, 1], &[1, 0, 3, 0, 0, 0]]),
        (&EXTERNAL, OT, code::ATTR_SET, &[&[1; 2], &[0, 0, 0, 1, 0x40, 1, 9]]),
    ] {
        all.extend(values.iter().map(|value| Message::with(context, flags, code, value)));
    }
    let unreach: &[u8] = &[0, 2, 1, 16, 0x20, 1];
    let reach: &[u8] = &[0, 1, 1, 4, 1, 2, 3, 4, 0];
    for (code, value) in [(code::MP_UNREACH_NLRI, unreach), (code::MP_REACH_NLRI, reach)] {
        all.push(Message::with(&EXTERNAL, 0x80, code, value).and(0x80, code, value));
    }
    all
}

#[test]
fn every_rule_of_the_table_is_triggered_and_has_its_verdict() {
    let mut reached = BTreeSet::new();
    let mut check = |body: &[u8], context: &Context| {
        let (attribute, text, verdict) = read(body, context);
        let is = |rule: &&&AttributeRule| {
            rule.text == text && (rule.attribute == attribute || rule.attribute.is_none())
        };
        let rule = RULES.iter().find(is).unwrap_or_else(|| panic!("no rule {text:?} of {attribute:?}"));
        assert_eq!(verdict, rule.verdict, "{attribute:?}: {text}");
        reached.insert((rule.attribute, rule.text));
    };
    for message in messages() {
        check(&message.octets(), &message.context);
    }
    check(&[0, 9, 1], &EXTERNAL);
    let mut cut = Message::new(&EXTERNAL).octets();
    let (attributes, nlri) = cut.split_at(cut.len() - 4);
    let attributes =
        [&[0, 0, 0, (attributes.len() - 2) as u8], &attributes[4..], &[0xc0, 8][..], nlri].concat();
    cut = attributes;
    check(&cut, &EXTERNAL);
    let all: BTreeSet<_> = RULES.iter().map(|rule| (rule.attribute, rule.text)).collect();
    assert_eq!(all.len(), RULES.len(), "every rule is in the table once");
    assert_eq!(all.difference(&reached).collect::<Vec<_>>(), Vec::<&(Option<u8>, &str)>::new());
}

#[test]
fn an_error_in_a_message_without_announcements_ends_the_session_unless_discarded() {
    for (flags, code, value, resets) in [
        (OT, code::COMMUNITIES, &[1, 2, 3][..], true),
        (0x40, code::ORIGIN, &[7], true),
        (0x40, code::ATOMIC_AGGREGATE, &[1], false),
    ] {
        for mp in [None, Some(&[0, 1, 1, 4, 1, 2, 3, 4, 0][..]), Some(&[0, 2, 1][..])] {
            let mut message = Message::with(&EXTERNAL, flags, code, value);
            message.nlri.clear();
            if let Some(value) = mp {
                let of = if value.len() == 3 { code::MP_UNREACH_NLRI } else { code::MP_REACH_NLRI };
                message = message.and(0x80, of, value);
            }
            let (_, _, verdict) = read(&message.octets(), &EXTERNAL);
            assert_eq!(verdict == UpdateVerdict::SessionReset, resets, "{code} {mp:?}");
        }
    }
}

#[test]
fn the_notification_contains_the_attribute_as_received_up_to_64_octets() {
    let mut message = Message::with(&EXTERNAL, OT, code::COMMUNITIES, &[7; 99]);
    message.nlri.clear();
    let error = UpdateView::parse(&message.octets()).unwrap().read(&EXTERNAL).unwrap_err();
    assert_eq!(error.attribute, Some(code::COMMUNITIES));
    assert_eq!(error.data, [&[OT, code::COMMUNITIES, 99][..], &[7; 61]].concat());
}

fn page() -> String {
    let mut out = String::from(
        "# What errors in an UPDATE cost\n\n\
         Written from the table in `bgp/src/wire/attribute/rule.rs` by\n\
         `WRITE_DOCS=1 cargo test -p bgp --test update_errors`; a test fails where they differ.\n\n\
         *Discard*: the attribute is left out, the routes stay. *Treat as withdraw*: the routes of the message are\n\
         withdrawn, the session stays. *Session reset*: the NOTIFICATION of the fourth column is sent. Of several\n\
         errors the worst counts. In a message that announces nothing, whatever is worse than a discard resets the\n\
         session, since it can't be known what was to be withdrawn (RFC 7606 §5.2). Of an attribute that stands there\n\
         twice the first counts (§3 g). The types 22, 25, 35, 40 and 128 mean nothing to us: they are checked, and\n\
         passed on as unknown ones are, since such attributes have travelled far to where they ended sessions.\n\n\
         | attribute | rule | if it is broken | NOTIFICATION | source |\n|---|---|---|---|---|\n",
    );
    for rule in RULES {
        let attribute = match rule.attribute {
            Some(number) => format!("{} ({number})", code::name(number).unwrap()),
            None => "the message".to_owned(),
        };
        let verdict = match rule.verdict {
            UpdateVerdict::Discard => "discard",
            UpdateVerdict::TreatAsWithdraw => "treat as withdraw",
            UpdateVerdict::SessionReset => "session reset",
            UpdateVerdict::Ok => unreachable!("every rule has a consequence"),
        };
        writeln!(out, "| {attribute} | {} | {verdict} | {} | {} |", rule.text, rule.code, rule.source)
            .unwrap();
    }
    out
}

#[test]
fn the_page_of_update_errors_matches_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/update-errors.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/update-errors.md is out of date: WRITE_DOCS=1 cargo test -p bgp --test update_errors"
    );
}
