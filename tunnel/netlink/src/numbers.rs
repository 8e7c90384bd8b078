//! Numbers of the kernel's netlink interface, all in one place.
//!
//! The `libc` crate has most of them; the constants below are those it lacks, with the header that
//! defines each.

pub use libc::{
    EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EBUSY, EEXIST, EIO, ENOBUFS, ENODEV, ENOENT, ENOTCONN, EOPNOTSUPP,
    EPERM, ESRCH, ETIMEDOUT, IFA_ADDRESS, IFA_LOCAL, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, NDA_DST, NDA_LLADDR, NTF_SELF, NUD_FAILED, NUD_INCOMPLETE,
    NUD_NOARP, NUD_NONE, NUD_PERMANENT, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RT_TABLE_LOCAL,
    RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_IIF, RTA_METRICS, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTA_SRC, RTA_TABLE, RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELROUTE, RTM_DELRULE,
    RTM_F_CLONED, RTM_F_FIB_MATCH, RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE, RTM_GETRULE,
    RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNETCONF, RTM_NEWROUTE, RTM_NEWRULE, RTN_BLACKHOLE,
    RTN_LOCAL, RTN_PROHIBIT, RTN_UNICAST, RTN_UNREACHABLE, RTN_UNSPEC, RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_NETCONF,
    RTNLGRP_IPV6_ROUTE, RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_NEXTHOP,
};
pub use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST,
};

// linux/netlink.h
/// `NLMSG_ERROR`.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub const NLMSG_DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`.
pub const NLMSGERR_ATTR_MSG: u16 = 1;
/// Mask of an attribute type, without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
pub const NLA_TYPE_MASK: u16 = 0x3fff;

// linux/socket.h, as the one octet that rtnetlink's headers have for a family.
/// `AF_UNSPEC`.
pub const AF_UNSPEC: u8 = 0;
/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_BRIDGE`.
pub const AF_BRIDGE: u8 = 7;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;

// linux/if.h
/// `IFF_UP`.
pub const IFF_UP: u32 = 0x1;
/// `IFF_RUNNING`.
pub const IFF_RUNNING: u32 = 0x40;

// linux/if_tunnel.h
/// `IFLA_IPTUN_LOCAL`.
pub const IFLA_IPTUN_LOCAL: u16 = 2;
/// `IFLA_IPTUN_REMOTE`.
pub const IFLA_IPTUN_REMOTE: u16 = 3;
/// `IFLA_IPTUN_PMTUDISC`.
pub const IFLA_IPTUN_PMTUDISC: u16 = 10;

// linux/if_link.h
/// `IFLA_VXLAN_ID`.
pub const IFLA_VXLAN_ID: u16 = 1;
/// `IFLA_VXLAN_LINK`.
pub const IFLA_VXLAN_LINK: u16 = 3;
/// `IFLA_VXLAN_LOCAL`.
pub const IFLA_VXLAN_LOCAL: u16 = 4;
/// `IFLA_VXLAN_LEARNING`.
pub const IFLA_VXLAN_LEARNING: u16 = 7;
/// `IFLA_VXLAN_PORT`.
pub const IFLA_VXLAN_PORT: u16 = 15;
/// `IFLA_VXLAN_LOCAL6`.
pub const IFLA_VXLAN_LOCAL6: u16 = 17;

// linux/rtnetlink.h
/// `RTA_NH_ID`.
pub const RTA_NH_ID: u16 = 30;
/// `RTAX_MTU`.
pub const RTAX_MTU: u16 = 2;
/// `RTNH_F_ONLINK`.
pub const RTNH_F_ONLINK: u32 = 0x4;
/// `RTPROT_UNSPEC`.
pub const RTPROT_UNSPEC: u8 = 0;

// linux/nexthop.h (Linux 5.3)
/// `RTM_NEWNEXTHOP`.
pub const RTM_NEWNEXTHOP: u16 = 104;
/// `RTM_DELNEXTHOP`.
pub const RTM_DELNEXTHOP: u16 = 105;
/// `RTM_GETNEXTHOP`.
pub const RTM_GETNEXTHOP: u16 = 106;
/// `NHA_ID`.
pub const NHA_ID: u16 = 1;
/// `NHA_GROUP`.
pub const NHA_GROUP: u16 = 2;
/// `NHA_GROUP_TYPE`.
pub const NHA_GROUP_TYPE: u16 = 3;
/// `NHA_BLACKHOLE`.
pub const NHA_BLACKHOLE: u16 = 4;
/// `NHA_OIF`.
pub const NHA_OIF: u16 = 5;
/// `NHA_GATEWAY`.
pub const NHA_GATEWAY: u16 = 6;
/// `NEXTHOP_GRP_TYPE_MPATH`.
pub const NEXTHOP_GRP_TYPE_MPATH: u16 = 0;

// linux/fib_rules.h
/// `FRA_PRIORITY`.
pub const FRA_PRIORITY: u16 = 6;
/// `FRA_FWMARK`.
pub const FRA_FWMARK: u16 = 10;
/// `FRA_SUPPRESS_IFGROUP`.
pub const FRA_SUPPRESS_IFGROUP: u16 = 13;
/// `FRA_SUPPRESS_PREFIXLEN`.
pub const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
/// `FRA_TABLE`.
pub const FRA_TABLE: u16 = 15;
/// `FRA_FWMASK`.
pub const FRA_FWMASK: u16 = 16;
/// `FRA_L3MDEV`.
pub const FRA_L3MDEV: u16 = 19;
/// `FRA_PROTOCOL`.
pub const FRA_PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`.
pub const FR_ACT_TO_TBL: u8 = 1;

// linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h
/// `NFNLGRP_NFTABLES`.
pub const NFNLGRP_NFTABLES: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`, the upper octet of a message type.
pub const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// `NFPROTO_INET`.
pub const NFPROTO_INET: u8 = 1;
/// `NFTA_TABLE_NAME`, and the attribute that names the table in messages of chains, rules, sets,
/// elements and objects.
pub const NFTA_TABLE_NAME: u16 = 1;
