package origin

import (
	"net/netip"
	"strings"
	"syscall"

	"modelfs/internal/model"
)

// notPublic are the networks that a host found through a wildcard or a
// redirect may not be in: this machine, its neighbours, and the services that
// clouds put beside them. IANA's special-purpose registries, and one address
// that Azure serves its machines from.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"168.63.129.16/32", "224.0.0.0/3",
	"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixToFo = netip.MustParsePrefix("2002::/16")
)

// checkAddr says whether an address may be dialled: any, if a pattern or an
// endpoint names the host exactly, else public ones only. The error is of
// kind Denied.
func checkAddr(ip netip.Addr, exact bool) error {
	if exact {
		return nil
	}
	inner := embedded(ip.WithZone(""))
	for _, p := range notPublic {
		if p.Contains(inner) {
			return model.Errorf(model.Denied, "the address %s is not public, and only a pattern that names its host exactly allows that", ip)
		}
	}
	return nil
}

// embedded is the IPv4 address that packets to ip end at, if it has one inside.
func embedded(ip netip.Addr) netip.Addr {
	b := ip.As16()
	switch {
	case ip.Is4() || ip.Is4In6():
		return ip.Unmap()
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFo.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

// control is net.Dialer.Control for hosts that are not named exactly. It runs
// after the name was resolved, for each address that is tried.
func control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return model.Errorf(model.Denied, "the address %q can't be checked", address)
	}
	return checkAddr(ap.Addr(), false)
}

// checkHostName checks what can be seen of a host before its name is
// resolved: addresses, and numbers that some resolvers take for addresses.
func checkHostName(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return checkAddr(ip, false)
	}
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || last[0] >= '0' && last[0] <= '9' {
		return model.Errorf(model.Denied, "%q looks like an address in an unusual form, which only a pattern that names it exactly allows", host)
	}
	return nil
}

// checkBehindProxy is checkHostName for hosts whose name a proxy resolves, so
// that the address is never seen: names that are local by convention are out.
func checkBehindProxy(host string) error {
	name := strings.TrimSuffix(host, ".")
	private := !strings.ContainsAny(name, ".:")
	for _, zone := range []string{".localhost", ".local", ".internal", ".home.arpa", ".localdomain"} {
		private = private || strings.HasSuffix(name, zone)
	}
	if private {
		return model.Errorf(model.Denied, "%q is a local name, and only a pattern that names it exactly allows that behind a proxy", host)
	}
	return nil
}
