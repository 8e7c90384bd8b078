//! Texts of resources.

/// The first line of a resource.
pub const HEAD: &str = "apiVersion: projectcalico.org/v3\n";

/// Returns a Node resource with an IPv4 address and the length of its subnet.
pub fn node(name: &str, address: &str) -> String {
    format!("{HEAD}kind: Node\nmetadata: {{name: {name}}}\nspec: {{bgp: {{ipv4Address: {address}}}}}\n")
}

/// Returns an IPPool resource with a `spec` in YAML, such as `{cidr: 10.1.0.0/16}`.
pub fn pool(name: &str, spec: &str) -> String {
    format!("{HEAD}kind: IPPool\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}
