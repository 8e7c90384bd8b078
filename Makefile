# The two commands of the README, and what they need. Run as root on Debian 12 with a Rust toolchain.
CARGO ?= cargo
# Packages of `make test`: real peers, real tools, a real kernel with ipip.
PEERS = bird2 frr gobgpd user-mode-linux nftables iproute2 procps valgrind openbgpd exabgp prometheus tcpdump tshark g++ \
	qemu-system-x86 linux-image-cloud-amd64 containernetworking-plugins etcd-server etcd-client openssl curl faketime

# Packages of the build: etcd's protocol is compiled from its definition.
BUILD = protobuf-compiler libprotobuf-dev

# Packages of the benchmarks.
SPEAKERS = bird2 frr gobgpd openbgpd iproute2 util-linux

.PHONY: demo test bench bench-full lint packages speakers protocols guest deb install

## demo: three nodes on this machine, pods reach pods through IP-in-IP (about a minute to build)
demo: protocols guest
	$(CARGO) build --package routed --package routectl
	target/debug/routectl lab

## test: all tests: unit, properties, simulation, real messages, labs in a real kernel, interop
test: packages
	.ci/test

## bench: codec and RIB, then routed beside BIRD and FRR (about 10 minutes after the build, as root)
bench: speakers
	.ci/bench

## bench-full: every scenario with every speaker, into docs/performance.md (about 45 minutes, as root)
bench-full: speakers
	.ci/bench full

## lint: formatting, clippy, and the cores without their drivers
lint: protocols
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	for core in timing bgp routing tunnel datastore; do $(CARGO) check --quiet --package $$core --no-default-features || exit 1; done

packages:
	.ci/packages $(BUILD) $(PEERS)

speakers:
	.ci/packages $(BUILD) $(SPEAKERS)

protocols:
	.ci/packages $(BUILD)

# What the lab needs: ip, nft for --block-bgp and --drop-ipip, and User-Mode Linux if this kernel can't create an ipip
# device.
guest:
	.ci/packages iproute2 nftables
	@ip link add name ipip-probe type ipip 2>/dev/null && ip link delete ipip-probe || .ci/packages user-mode-linux

## deb: a Debian package of both programs, target/routed_VERSION_ARCHITECTURE.deb
deb: protocols
	.ci/packages dpkg-dev binutils
	$(CARGO) build --release --package routed --package routectl
	deploy/debian/build

## install: both programs to PREFIX (/usr/local)
PREFIX ?= /usr/local
install: protocols
	$(CARGO) build --release --package routed --package routectl
	install -D -m 755 target/release/routed $(DESTDIR)$(PREFIX)/sbin/routed
	install -D -m 755 target/release/routectl $(DESTDIR)$(PREFIX)/bin/routectl
