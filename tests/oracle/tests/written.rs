//! Other decoders read every UPDATE of the corpus, encoded again by our encoder.

use bgp::wire::as_path::AsWidth;
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::update::UpdateView;
use oracle::case::{Case, real_messages};
use oracle::message::Outcome;
use oracle::our_reader::context;
use oracle::{bgp_rs_reader, bgpkit_reader, our_reader};

/// The message's announcements and withdrawals in our encoder's words; `None` for what isn't an
/// UPDATE that we accept.
fn write(case: &Case, form: UpdateFormat) -> Option<Vec<u8>> {
    let frame = frame::next(&case.octets, MAX_EXTENDED_LEN).ok().flatten()?;
    if frame.kind != MessageKind::Update || case.add_path || case.disputed {
        return None;
    }
    let update = UpdateView::parse(frame.body).ok()?.read(&context(case.asn4)).ok()?;
    if update.fault.is_some() {
        return None;
    }
    let mut attributes = Vec::new();
    update.attributes.write_canonical(&mut attributes);
    let mut out = Vec::new();
    for list in update.withdrawals() {
        encode::withdraw(&mut out, form, list.family(), list.iter());
    }
    for (next_hop, list) in update.announcements() {
        encode::announce(&mut out, form, &attributes, next_hop, list.iter()).ok()?;
    }
    Some(out)
}

fn agree(read: fn(&[u8], bool) -> Outcome, as_width: AsWidth) {
    let (mut messages, mut differences) = (0, Vec::new());
    for case in &real_messages() {
        let Some(written) = write(case, UpdateFormat { as_width, ..UpdateFormat::default() }) else {
            continue;
        };
        let mut rest = written.as_slice();
        while let Ok(Some(frame)) = frame::next(rest, MAX_EXTENDED_LEN) {
            let (message, next) = rest.split_at(frame.len());
            let asn4 = as_width == AsWidth::Four;
            let (ours, theirs) = (our_reader::read(message, asn4), read(message, asn4));
            if ours != theirs || !matches!(ours, Outcome::Read(_)) {
                differences.push(format!("{}\n  ours   {ours:?}\n  theirs {theirs:?}", case.id));
            }
            messages += 1;
            rest = next;
        }
        assert!(rest.is_empty(), "{}: what we wrote ends in half a message", case.id);
    }
    let shown: Vec<&str> = differences.iter().take(10).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} of {messages} differ:\n{}", differences.len(), shown.join("\n"));
    assert!(messages >= 3500, "only {messages} messages written");
}

#[test]
fn bgpkit_parser_reads_what_we_write_in_both_widths() {
    agree(bgpkit_reader::read, AsWidth::Four);
    agree(bgpkit_reader::read, AsWidth::Two);
}

#[test]
fn bgp_rs_reads_what_we_write_in_both_widths() {
    agree(bgp_rs_reader::read, AsWidth::Four);
    agree(bgp_rs_reader::read, AsWidth::Two);
}
