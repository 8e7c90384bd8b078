//! The BGP-4 protocol: wire format, session state machine and the TCP driver.
//! Knows no RIB and no kernel.
