//! The page `docs/resources.md`, generated from the table of fields.

use std::fmt::Write;

use super::{CALICO_KINDS, Field, FieldSupport, METADATA, fields};
use crate::Kind;

const HEAD: &str = "# Resources

<!-- Written by `cargo run -p routectl -- reference resources > docs/resources.md`; a test compares. -->

Calico's resources, `apiVersion: projectcalico.org/v3`, with Calico's names, defaults and rules. Settings for which Calico has no field are under
`spec.routed`, except a Node's `podCIDRs`. `crd.projectcalico.org/v1`, the form in which Kubernetes stores them, is read
as well, and so are lists (`kind: NodeList`, `kind: List`, or a plain list) by `routectl`'s `-f`. A field that is not listed here is
refused, with a suggestion of the nearest name. Degrees of support:

* **honoured**: no mark in the tables below;
* *kept*: stored and returned, without effect;
* *warned of*: stored; `apply`, `validate` and `show status` warn of the part that has no effect;
* **refused**, unless it has its default: the resource is refused, and the message names the alternative, as here.

";

/// Returns the reference as Markdown.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    table(&mut page, "Metadata", "of every kind", METADATA);
    for (kind, what) in [
        (Kind::IpPool, "a range of pod addresses"),
        (Kind::Node, "a node of the cluster"),
        (Kind::BgpPeer, "one or more BGP sessions in addition to the mesh"),
        (Kind::BgpConfiguration, "settings of the whole cluster; its name is `default`"),
        (Kind::BgpFilter, "rules for routes received from and advertised to peers"),
        (Kind::BlockAffinity, "a block of addresses that a node owns"),
    ] {
        table(&mut page, kind.name(), what, fields(kind));
    }
    page.push_str(V1);
    let _ = writeln!(
        page,
        "\n## Calico's other kinds\n\n{} do not concern routing. A file with one of them is refused; \
         [moving-from-calico.md](moving-from-calico.md) says where they go.",
        CALICO_KINDS.join(", ")
    );
    page
}

const V1: &str = "## The v1 forms

| | Fields | Becomes |
|---|---|---|
| `apiVersion: v1`, `kind: ipPool` | `metadata.cidr`; `spec.ipip.enabled`, `spec.ipip.mode` (`always`, the default, or `cross-subnet`), `spec.nat-outgoing`, `spec.disabled` | the IPPool of that cidr, or a new one named after it (`192-168-0-0-16`); without `ipip` `ipipMode` is `Never` |
| `apiVersion: v1`, `kind: node` | `metadata.name`; `spec.bgp` as above | the Node of that name |
| `apiVersion: v1`, `kind: bgpPeer` | `metadata.scope` (`global`, `node`), `metadata.node`, `metadata.peerIP`; `spec.asNumber` | the BGPPeer `global-ADDRESS` or `NODE-ADDRESS` |

`kind: ClusterConfiguration` of an installer, given to `routectl apply`, sets `spec.routed.encapsulation` of the BGPConfiguration from
`spec.kubernetes.containerNetworking.calico.encapsulation`; all other fields are reported as ignored.
";

fn table(page: &mut String, heading: &str, what: &str, fields: &[Field]) {
    let _ = write!(
        page,
        "## {heading}\n\n{}.\n\n| Field | Holds | Default | |\n|---|---|---|---|\n",
        capital(what)
    );
    // The row of a list describes its items too.
    for field in fields.iter().filter(|field| field.values != "see above") {
        let meaning = match field.support {
            FieldSupport::Honoured => field.meaning.to_owned(),
            FieldSupport::Stored => format!("*kept*: {}", field.meaning),
            FieldSupport::Warned => format!("*warned of*: {}", field.meaning),
            FieldSupport::Refused => format!("**refused**: {}", field.meaning),
        };
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            field.path,
            cell(field.values),
            cell(field.default),
            cell(&meaning)
        );
    }
    page.push('\n');
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + characters.as_str())
}
