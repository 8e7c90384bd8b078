//! `docs/resources.md`, from the table of fields.

use std::fmt::Write;

use super::{CALICO_KINDS, Field, FieldSupport, METADATA, fields};
use crate::Kind;

const HEAD: &str = "# Resources

<!-- Written by `cargo run -p routectl -- reference resources > docs/resources.md`; a test compares. -->

Calico's resources, `apiVersion: projectcalico.org/v3`, with Calico's names, defaults and rules; what Calico has no field for is under
`spec.routed`, but for a Node's `podCIDRs`. `crd.projectcalico.org/v1`, the form in which Kubernetes stores them, is read
as well, and so are lists (`kind: NodeList`, `kind: List`, or a plain list) by `routectl`'s `-f`. A field that stands nowhere here is
refused, with the name that may have been meant. What is made of a field:

* **honoured**, where nothing else is said;
* *kept*: stored and given back; nothing follows from it;
* *warned of*: stored, and each `apply`, `validate` and `show status` says what is not made of it;
* **refused**, unless it has its default: the resource is not taken, and the message says what to do instead, as here.

";

/// Returns the reference as Markdown.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    table(&mut page, "Metadata", "of every kind", METADATA);
    for (kind, what) in [
        (Kind::IpPool, "a range of pod addresses"),
        (Kind::Node, "a node of the cluster"),
        (Kind::BgpPeer, "a BGP session beside the mesh, or many"),
        (Kind::BgpConfiguration, "what holds for the whole cluster; its name is `default`"),
        (Kind::BgpFilter, "which routes peers may send and are told"),
        (Kind::BlockAffinity, "a block of addresses that a node owns"),
    ] {
        table(&mut page, kind.name(), what, fields(kind));
    }
    page.push_str(V1);
    let _ = writeln!(
        page,
        "\n## Calico's other kinds\n\n{} are not about routes. A file with one of them is refused; \
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
`spec.kubernetes.containerNetworking.calico.encapsulation`; everything else in it is named as ignored.
";

fn table(page: &mut String, heading: &str, what: &str, fields: &[Field]) {
    let _ = write!(
        page,
        "## {heading}\n\n{}.\n\n| Field | Holds | Default | |\n|---|---|---|---|\n",
        capital(what)
    );
    // A row that stands for the items of a list alone says nothing that its list doesn't.
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
