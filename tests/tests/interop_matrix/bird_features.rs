//! Features of BIRD with a configuration of their own: several paths, next hops of another family,
//! roles.

use tests::capture::Capture;

use super::labs::{expect_next_hop, tshark, up};
use super::routed::{Routed, bgp_peer, node};
use super::speakers::Kind;
use super::{ASN, EXTERNAL, FEATURES, Outcome, Results, SOON, THEIRS, bed, note, within};

const SEVERAL: usize = 17;
const NEXT_HOP: usize = 18;
const ROLES: usize = 19;

/// An external BIRD, our provider, with two paths to its block.
pub(super) fn told_more(kind: Kind, results: &mut Results) {
    if kind != Kind::Bird {
        for feature in [SEVERAL, NEXT_HOP, ROLES] {
            results.insert(FEATURES[feature], Outcome::Absent);
        }
        return;
    }
    let bed = bed();
    let capture = Capture::start(&bed);
    let config = format!(
        "router id 10.0.0.2;\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
         protocol static one {{ ipv4; route {THEIRS} blackhole; }}\n\
         protocol static two {{ ipv4; route {THEIRS} unreachable; }}\n\
         protocol bgp routed {{\n  local 10.0.0.2 as {EXTERNAL};\n  neighbor 10.0.0.1 as {ASN};\n  local role provider;\n  \
         connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  \
         ipv4 {{ add paths tx; extended next hop on; next hop address fd00::2; import all; export filter {{ \
         if proto = \"two\" then {{ bgp_med = 7; accept; }} if proto = \"one\" then accept; reject; }}; }};\n}}\n"
    );
    let config = bed.write("bird.conf", &config);
    let (control, pid) = (bed.path("bird.ctl"), bed.path("bird.pid"));
    let words = [&config, &control, &pid].map(|path| path.to_str().expect("UTF-8").to_owned());
    let [config, control, pid] = &words;
    let _bird = bed.start("b", "bird", &["-f", "-c", config, "-s", control, "-P", pid]);
    let filter = "---\napiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: { name: everything }\nspec: { importV4: \
                  [{ action: Accept }] }\n";
    let resources = |role: &str| {
        let more = format!(", filters: [everything], routed: {{ role: {role} }}");
        node("") + filter + &bgp_peer("peer", "10.0.0.2", EXTERNAL, &more)
    };
    let routed = Routed::start(&bed, &resources("customer"));
    up(&routed, None, kind);
    note(results, NEXT_HOP, expect_next_hop(&routed, THEIRS, "fd00::2"));
    let mut paths = None;
    let several = within(SOON, || {
        paths = routed.paths(THEIRS);
        (paths == Some(2)).then_some(())
    });
    note(results, SEVERAL, several.ok_or_else(|| format!("paths to {THEIRS}: {paths:?}")));
    bed.write("resources/cluster.yaml", &resources("peer"));
    let refused = within(SOON, || {
        let session = routed.session("10.0.0.2")?;
        session["last_error"].as_str()?.contains("Role Mismatch").then_some(())
    });
    note(results, ROLES, refused.ok_or_else(|| format!("{:?}", routed.session("10.0.0.2"))));
    tshark(results, capture);
}
