//! The part of our table that is the same on every node.

/// The table.
pub const TABLE: &str = "inet corten";

/// The chain that marks packets for masquerading.
pub const MASQUERADE: &str = "mark-masquerade";
/// The chain that refuses connections.
pub const REFUSE: &str = "refuse";

/// The static part, in nft's language, between the braces of the table. NAT
/// chains cannot refuse packets, so services without endpoints have maps of
/// their own, looked up in filter chains.
pub const BASE: &str = "
  map services4 { type inet_proto . ipv4_addr . inet_service : verdict; }
  map services6 { type inet_proto . ipv6_addr . inet_service : verdict; }
  map nodeports4 { type inet_proto . inet_service : verdict; }
  map nodeports6 { type inet_proto . inet_service : verdict; }
  map empty4 { type inet_proto . ipv4_addr . inet_service : verdict; }
  map empty6 { type inet_proto . ipv6_addr . inet_service : verdict; }
  map emptyports4 { type inet_proto . inet_service : verdict; }
  map emptyports6 { type inet_proto . inet_service : verdict; }
  chain mark-masquerade {
    meta mark set meta mark or 0x4000
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject
  }
  chain services {
    meta l4proto . ip daddr . th dport vmap @services4
    meta l4proto . ip6 daddr . th dport vmap @services6
    ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @nodeports4
    ip6 daddr != ::1 fib daddr type local meta l4proto . th dport vmap @nodeports6
  }
  chain empty {
    meta l4proto . ip daddr . th dport vmap @empty4
    meta l4proto . ip6 daddr . th dport vmap @empty6
    ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @emptyports4
    ip6 daddr != ::1 fib daddr type local meta l4proto . th dport vmap @emptyports6
  }
  chain nat-prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump services
  }
  chain nat-output {
    type nat hook output priority -100; policy accept;
    jump services
  }
  chain nat-postrouting {
    type nat hook postrouting priority 100; policy accept;
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain filter-input {
    type filter hook input priority -10; policy accept;
    ct state new jump empty
  }
  chain filter-forward {
    type filter hook forward priority -10; policy accept;
    ct state new jump empty
  }
  chain filter-output {
    type filter hook output priority -10; policy accept;
    ct state new jump empty
  }
";
