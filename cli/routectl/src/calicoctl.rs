//! Commands of calicoctl: those that work unchanged, and the alternatives to the others.

use std::fmt::Write;

use resource::reference::CALICO_KINDS;

/// The support of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommandSupport {
    /// The command works; a part of its standard output.
    Works(&'static str),
    /// The command is refused with this line, which names the alternative.
    Instead(&'static Redirect),
}

/// A command that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Redirect {
    /// The words that identify it: commands in order, options anywhere (`^`: before the
    /// command), parts of words (`~`).
    words: &'static [&'static str],
    /// The alternative, one line.
    line: &'static str,
}

const fn to(words: &'static [&'static str], line: &'static str) -> Redirect {
    Redirect { words, line }
}

const SOCKET: &str =
    "routectl speaks to the daemon, which knows the datastore: use --socket PATH, or ROUTED_SOCKET";
const NAMESPACES: &str = "these resources have no namespaces: leave the option out";
const LOCKS: &str =
    "no lock is needed: every change is made only if nothing else has changed; leave the command out";

const GO_TEMPLATE: Redirect =
    to(&["get", "~go-template"], "go templates are not built in: use -o jsonpath=TEMPLATE");
const CONFIG: Redirect = to(&["--config"], SOCKET);
const CONFIG_SHORT: Redirect = to(&["-c"], SOCKET);
const CONTEXT: Redirect = to(&["--context"], SOCKET);
const NAMESPACE: Redirect = to(&["--namespace"], NAMESPACES);
const NAMESPACE_SHORT: Redirect = to(&["-n"], NAMESPACES);
const EVERYWHERE: Redirect = to(&["--all-namespaces"], NAMESPACES);
const EVERYWHERE_SHORT: Redirect = to(&["-A"], NAMESPACES);
const LOG: &str = "routectl writes no log: the daemon's level is `log` in routed.yaml";
const LEVEL: Redirect = to(&["--log-level"], LOG);
const LEVEL_SHORT: Redirect = to(&["^-l"], LOG);
const RUN: Redirect =
    to(&["node", "run"], "routed is a service of the host: use `systemctl enable --now routed`");
const CHECK: Redirect = to(&["node", "checksystem"], "use `routectl doctor`");
const DIAGS: Redirect = to(&["node", "diags"], "use `routectl doctor` and `routectl show status`");
const CLUSTER: Redirect = to(
    &["cluster", "diags"],
    "use `routectl doctor` and `routectl show status` on each node, with -o json for scripts",
);
const POLL: Redirect = to(&["version", "--poll"], "use `routectl version`, as often as you like");
const SHOW_CONFIGURATION: Redirect = to(
    &["ipam", "show", "--show-configuration"],
    "look at `ipam` in the node's routed.yaml; a block is one node's, always",
);
const CONFIGURE: Redirect = to(
    &["ipam", "configure"],
    "set `ipam` in each node's routed.yaml (blocks, maxBlocks, freeAddresses, reclaimAfter); a block is one node's, always",
);
const SPLIT: Redirect = to(
    &["ipam", "split"],
    "a pool's range stays: `routectl patch ippool NAME -p '{\"spec\":{\"disabled\":true}}'`, and apply smaller pools of other ranges",
);
const MIGRATE_EXPORT: Redirect =
    to(&["datastore", "migrate", "export"], "use `routectl datastore export > FILE`");
const MIGRATE_IMPORT: Redirect = to(
    &["datastore", "migrate", "import"],
    "use `routectl apply -f FILE`, or `routectl datastore migrate --from STORE --to STORE`",
);
const MIGRATE_LOCK: Redirect = to(&["datastore", "migrate", "lock"], LOCKS);
const MIGRATE_UNLOCK: Redirect = to(&["datastore", "migrate", "unlock"], LOCKS);

/// The commands below headings, in an order in which they can be run one after the other.
const COMMANDS: &[(&str, &[(&str, CommandSupport)])] = &[
    (
        "Resources",
        &[
            (
                "calicoctl create -f ippool.yaml",
                CommandSupport::Works("Successfully created 1 'IPPool' resource(s)"),
            ),
            (
                "calicoctl create -f ippool.yaml --skip-exists",
                CommandSupport::Works("Successfully created 1 'IPPool' resource(s)"),
            ),
            (
                "cat bgppeer.json | calicoctl create -f -",
                CommandSupport::Works("Successfully created 1 'BGPPeer' resource(s)"),
            ),
            (
                "calicoctl create --filename=resources/ --recursive",
                CommandSupport::Works("Successfully created 4 resource(s)"),
            ),
            ("calicoctl create -f empty/ --skip-empty", CommandSupport::Works("No resources specified")),
            (
                "calicoctl apply -f ippool.yaml",
                CommandSupport::Works("Successfully applied 1 'IPPool' resource(s)"),
            ),
            ("calicoctl apply -f resources/ -R", CommandSupport::Works("Successfully applied 4 resource(s)")),
            (
                "calicoctl replace -f ippool.yaml",
                CommandSupport::Works("Successfully replaced 1 'IPPool' resource(s)"),
            ),
            ("calicoctl get nodes", CommandSupport::Works("node1")),
            (
                "calicoctl get node node1 node2 -o wide",
                CommandSupport::Works("NAME    ASN       IPV4          IPV6"),
            ),
            (
                "calicoctl get ippool -o wide",
                CommandSupport::Works("NAME      CIDR             NAT    IPIPMODE"),
            ),
            ("calicoctl get ipp default --output=yaml", CommandSupport::Works("cidr: 192.168.0.0/16")),
            ("calicoctl get bgpPeer -o ps", CommandSupport::Works("NAME    PEERIP      NODE       ASN")),
            ("calicoctl get bgpconfig default -o json", CommandSupport::Works("\"nodeToNodeMeshEnabled\"")),
            ("calicoctl get nodes -o custom-columns=NAME,IPV4", CommandSupport::Works("10.0.0.1/24")),
            ("calicoctl get -f ippool.yaml -o yaml", CommandSupport::Works("name: default")),
            ("calicoctl get node node1 -o yaml --export", CommandSupport::Works("name: node1")),
            (
                "calicoctl patch node node1 --patch '{\"spec\":{\"bgp\": {\"routeReflectorClusterID\": \"244.0.0.1\"}}}'",
                CommandSupport::Works("Successfully patched 1 'Node' resource"),
            ),
            (
                "calicoctl patch node node1 -p '{\"spec\":{\"bgp\": {\"routeReflectorClusterID\": null}}}' --type json",
                CommandSupport::Works("Successfully patched 1 'Node' resource"),
            ),
            (
                "calicoctl patch bgpconfiguration default -p '{\"spec\": {\"nodeToNodeMeshEnabled\": false}}'",
                CommandSupport::Works("Successfully patched 1 'BGPConfiguration' resource"),
            ),
            (
                "calicoctl patch ippool default -p '{\"spec\": {\"ipipMode\": \"CrossSubnet\"}}' -t strategic",
                CommandSupport::Works("Successfully patched 1 'IPPool' resource"),
            ),
            (
                "calicoctl label nodes node1 cluster=backend",
                CommandSupport::Works("Successfully set label cluster on nodes node1"),
            ),
            (
                "calicoctl label nodes node1 cluster=frontend --overwrite",
                CommandSupport::Works("Successfully updated label cluster on nodes node1"),
            ),
            (
                "calicoctl label nodes node1 cluster --remove",
                CommandSupport::Works("Successfully removed label cluster from nodes node1"),
            ),
            ("calicoctl validate -f ippool.yaml", CommandSupport::Works("valid: 1 IPPool")),
            ("calicoctl get nodes --allow-version-mismatch", CommandSupport::Works("node1")),
            (
                "calicoctl delete bgppeer peer1 no-such-peer --skip-not-exists",
                CommandSupport::Works("Successfully deleted 2 'BGPPeer' resource(s)"),
            ),
            (
                "calicoctl delete -f ippool.yaml",
                CommandSupport::Works("Successfully deleted 1 'IPPool' resource(s)"),
            ),
            (
                "calicoctl get nodes -o go-template='{{range .}}{{.metadata.name}}{{end}}'",
                CommandSupport::Instead(&GO_TEMPLATE),
            ),
            ("calicoctl get nodes -o go-template-file=nodes.tmpl", CommandSupport::Instead(&GO_TEMPLATE)),
            (
                "calicoctl convert -f old.yaml -o yaml",
                CommandSupport::Works("apiVersion: projectcalico.org/v3"),
            ),
        ],
    ),
    (
        "Options of every command",
        &[
            ("calicoctl get nodes --config=/etc/calico/calicoctl.cfg", CommandSupport::Instead(&CONFIG)),
            ("calicoctl get nodes -c /etc/calico/calicoctl.cfg", CommandSupport::Instead(&CONFIG_SHORT)),
            ("calicoctl get nodes --context=west", CommandSupport::Instead(&CONTEXT)),
            ("calicoctl get nodes --namespace=default", CommandSupport::Instead(&NAMESPACE)),
            ("calicoctl get nodes -n default", CommandSupport::Instead(&NAMESPACE_SHORT)),
            ("calicoctl get nodes --all-namespaces", CommandSupport::Instead(&EVERYWHERE)),
            ("calicoctl get nodes -A", CommandSupport::Instead(&EVERYWHERE_SHORT)),
            ("calicoctl --log-level=debug get nodes", CommandSupport::Instead(&LEVEL)),
            ("calicoctl -l debug get nodes", CommandSupport::Instead(&LEVEL_SHORT)),
        ],
    ),
    (
        "Addresses",
        &[
            ("calicoctl ipam show", CommandSupport::Works("GROUPING")),
            ("calicoctl ipam show --show-blocks", CommandSupport::Works("GROUPING")),
            ("calicoctl ipam check", CommandSupport::Works("")),
            ("calicoctl ipam show --ip=192.168.1.2", CommandSupport::Works("192.168.1.0/26")),
            ("calicoctl ipam show --show-borrowed", CommandSupport::Works("")),
            ("calicoctl ipam show --show-configuration", CommandSupport::Instead(&SHOW_CONFIGURATION)),
            ("calicoctl ipam check --show-all-ips", CommandSupport::Works("block(s)")),
            ("calicoctl ipam check --show-problem-ips", CommandSupport::Works("block(s)")),
            ("calicoctl ipam check -o report.json", CommandSupport::Works("")),
            ("calicoctl ipam release --from-report=report.json --force", CommandSupport::Works("")),
            ("calicoctl ipam split --name=default 2", CommandSupport::Instead(&SPLIT)),
            ("calicoctl ipam configure --strictaffinity=true", CommandSupport::Instead(&CONFIGURE)),
            ("calicoctl ipam configure --max-blocks-per-host=4", CommandSupport::Instead(&CONFIGURE)),
        ],
    ),
    (
        "Nodes, clusters and datastores",
        &[
            ("calicoctl node status", CommandSupport::Works("IPv4 BGP status")),
            ("calicoctl version", CommandSupport::Works("Client Version:")),
            ("calicoctl version --client", CommandSupport::Works("Client Version:")),
            ("calicoctl version --poll=5s", CommandSupport::Instead(&POLL)),
            ("calicoctl node run --node-image=calico/node:latest", CommandSupport::Instead(&RUN)),
            ("calicoctl node checksystem", CommandSupport::Instead(&CHECK)),
            ("calicoctl node diags", CommandSupport::Instead(&DIAGS)),
            ("calicoctl cluster diags --since=1h", CommandSupport::Instead(&CLUSTER)),
            ("calicoctl datastore migrate export > etcd-data.yaml", CommandSupport::Instead(&MIGRATE_EXPORT)),
            (
                "calicoctl datastore migrate import -f etcd-data.yaml",
                CommandSupport::Instead(&MIGRATE_IMPORT),
            ),
            ("calicoctl datastore migrate lock", CommandSupport::Instead(&MIGRATE_LOCK)),
            ("calicoctl datastore migrate unlock", CommandSupport::Instead(&MIGRATE_UNLOCK)),
        ],
    ),
];

/// Calico's kinds that do not concern routing, as users of calicoctl spell them, and the
/// alternative.
const KINDS: &[(&[&str], &str)] = &[
    (
        &["felixconfiguration", "felixconfigurations", "felixconfig", "felixconfigs"],
        "there is no FelixConfiguration: use `spec.routed` of BGPConfiguration default, and each node's routed.yaml",
    ),
    (
        &["ipamconfig", "ipamconfiguration", "ipamconfigurations"],
        "there is no IPAMConfiguration: use `ipam` in each node's routed.yaml",
    ),
    (
        &["clusterinformation", "clusterinformations", "clusterinfo", "clusterinfos"],
        "there is no ClusterInformation: use `routectl version` and `routectl show status`",
    ),
    (
        &["caliconodestatus", "caliconodestatuses"],
        "there is no CalicoNodeStatus: use `routectl show peers` and `routectl show routes` on the node",
    ),
    (
        &["ipreservation", "ipreservations"],
        "there is no IPReservation: addresses within a block are handed out by the node's host-local plugin; keep a range out of \
         the pools instead",
    ),
    (
        &["kubecontrollersconfiguration", "kubecontrollersconfigurations", "kubecontrollersconfig"],
        "there is no KubeControllersConfiguration: nodes register themselves, and use `routectl ipam check --fix` for those that went",
    ),
    (
        &[
            "globalnetworkpolicy",
            "globalnetworkpolicies",
            "gnp",
            "gnps",
            "globalnetworkset",
            "globalnetworksets",
            "hostendpoint",
            "hostendpoints",
            "hep",
            "heps",
            "networkpolicy",
            "networkpolicies",
            "policy",
            "policies",
            "np",
            "networkset",
            "networksets",
            "netsets",
            "profile",
            "profiles",
            "pro",
            "pros",
            "workloadendpoint",
            "workloadendpoints",
            "wep",
            "weps",
            "tier",
            "tiers",
            "stagedglobalnetworkpolicy",
            "stagednetworkpolicy",
            "stagedkubernetesnetworkpolicy",
        ],
        "policy is not routed's: use kubectl, or calicoctl against Calico's own datastore",
    ),
];

/// Returns the alternative to a command that calicoctl has and routectl lacks.
pub(super) fn instead(arguments: &[String]) -> Option<&'static str> {
    let all = COMMANDS.iter().flat_map(|(_, commands)| commands.iter());
    let redirects = all.filter_map(|(_, answer)| match answer {
        CommandSupport::Instead(redirect) => Some(*redirect),
        CommandSupport::Works(_) => None,
    });
    let mut found: Vec<&Redirect> = redirects.filter(|redirect| redirect.is(arguments)).collect();
    // The most specific match counts.
    found.sort_by_key(|redirect| std::cmp::Reverse(redirect.words.len()));
    found.first().map(|redirect| redirect.line).or_else(|| kind_instead(arguments))
}

fn kind_instead(arguments: &[String]) -> Option<&'static str> {
    let verbs = ["get", "delete", "patch", "label"];
    let at = arguments.iter().position(|word| verbs.contains(&word.as_str()))?;
    let given: Vec<String> = arguments.iter().skip(at + 1).map(|word| word.to_ascii_lowercase()).collect();
    let is_given = |names: &&[&str]| names.iter().any(|name| given.iter().any(|word| word == name));
    KINDS.iter().find(|(names, _)| is_given(names)).map(|(_, line)| *line)
}

impl Redirect {
    fn is(&self, arguments: &[String]) -> bool {
        let mut commands = arguments.iter().filter(|word| !word.starts_with('-'));
        self.words.iter().all(|wanted| {
            let option = |word: &String| {
                word.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            if let Some(first) = wanted.strip_prefix('^') {
                arguments.first().is_some_and(|word| word == first)
            } else if let Some(part) = wanted.strip_prefix('~') {
                arguments.iter().any(|word| word.contains(part))
            } else if wanted.starts_with('-') {
                arguments.iter().any(option)
            } else {
                commands.next().is_some_and(|word| word == wanted)
            }
        })
    }
}

const HEAD: &str = "# calicoctl's commands

<!-- Written by `cargo run -p routectl -- reference calico-commands > docs/calico-commands.md`; tests compare, and type all of it. -->

Every command of calicoctl's reference for the resources that are about routes, as its users type it, with `routectl` in place of
`calicoctl` (`ln -s routectl calicoctl` does that): *works*, with what it says, or one line that names what to use instead, and exit
status 2. Kinds are taken in any case, singular, plural and short, as calicoctl does: `node`, `nodes`, `no`, `nos`; `ippool`, `ippools`,
`ipp`, `ipps`, `pool`, `pools`; `bgppeer`, `bgppeers`, `bgpp`, `bgpps`, `bp`, `bps`; `bgpconfiguration`, `bgpconfigurations`, `bgpconfig`,
`bgpconfigs`, `bgpc`; `bgpfilter`, `bgpfilters`, `bgpf`, `bgpfs`, `bf`, `bfs`; `blockaffinity`, `blockaffinities`, `affinity`, `affinities`.

What differs though it works: all resources of a command are stored or none; `-o json` and `-o yaml` of several resources are an array
and YAML documents; `--export` needs no name; a name that `get` does not find is an error after what it found; exit status 1 is a
refusal, 2 wrong usage, 3 no daemon.
";

/// Returns the page `docs/calico-commands.md`.
pub(super) fn page() -> String {
    let mut page = String::from(HEAD);
    for (heading, commands) in COMMANDS {
        let _ = write!(page, "\n## {heading}\n\n| As typed | Answer |\n|---|---|\n");
        for (typed, answer) in *commands {
            let typed = typed.replace('|', "\\|");
            let _ = match answer {
                CommandSupport::Works("") => writeln!(page, "| `{typed}` | works |"),
                CommandSupport::Works(says) => writeln!(page, "| `{typed}` | works: `{says}` |"),
                CommandSupport::Instead(Redirect { line, .. }) => {
                    writeln!(page, "| `{typed}` | instead: {line} |")
                }
            };
        }
    }
    page.push_str("\n## Calico's other kinds\n\n| As typed | Answer |\n|---|---|\n");
    for (names, line) in KINDS {
        for name in *names {
            let _ = writeln!(page, "| `calicoctl get {name}` | instead: {line} |");
        }
    }
    let _ = write!(page, "\nA file with one of {} is refused by name.\n", CALICO_KINDS.join(", "));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &str) -> Option<&'static str> {
        let words: Vec<String> = command.split_whitespace().map(ToOwned::to_owned).collect();
        instead(&words)
    }

    #[test]
    fn a_redirect_is_known_by_its_commands_and_options_wherever_they_stand() {
        assert_eq!(line("node run --node-image=x"), Some(RUN.line));
        assert_eq!(line("ipam --show-configuration show"), Some(SHOW_CONFIGURATION.line));
        assert_eq!(line("get nodes --config /x"), Some(SOCKET));
        assert_eq!(line("get networkPolicy -o yaml"), Some(KINDS[6].1));
        for ours in
            ["get nodes", "ipam show", "apply -f node", "get nodes -l x", "datastore migrate --from a"]
        {
            assert_eq!(line(ours), None, "{ours}");
        }
    }

    #[test]
    fn the_page_of_commands_is_as_the_table_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/calico-commands.md");
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/calico-commands.md is not what the table of commands says; write it anew with: cargo run -p routectl -- reference calico-commands > docs/calico-commands.md"
        );
    }
}
