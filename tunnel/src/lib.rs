//! Tunnel exit points and the kernel state that realises them. Knows no BGP.
