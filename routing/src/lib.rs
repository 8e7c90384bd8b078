//! RIB, decision process and export. Opens no socket, speaks no netlink.
