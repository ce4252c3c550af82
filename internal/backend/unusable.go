package backend

import (
	"path"
	"strings"
)

// unusable says which hardware the kernel shows without a device that opens,
// and which devices refused: what a person needs who expected a GPU.
func (m *machine) unusable(s Selection) []Sign {
	var list []Sign
	for _, vendor := range m.glob("sys/bus/pci/devices/*/vendor") {
		dir := path.Dir(vendor)
		b := backendOf(m.read(vendor), m.read(dir+"/class"))
		if b == "" || s.Has(b) || hasSign(list, b) {
			continue
		}
		list = append(list, Sign{b, "PCI device " + path.Base(dir) + " is there, but no device node of it opens here" + m.refusals(b)})
	}
	if !s.Has(CUDA) && !hasSign(list, CUDA) && m.exists("proc/driver/nvidia/version") {
		list = append(list, Sign{CUDA, "the NVIDIA driver is loaded, but no device node of it opens here" + m.refusals(CUDA)})
	}
	return list
}

// backendOf is the backend of a PCI device by vendor and class (0x03: display,
// 0x12: accelerator; Amazon's and Google's count as 0x0880, other system
// peripheral, and the vendors make network cards, too), or "".
func backendOf(vendor, class string) Backend {
	display, accelerator := strings.HasPrefix(class, "0x03"), strings.HasPrefix(class, "0x12")
	peripheral := accelerator || strings.HasPrefix(class, "0x0880")
	switch {
	case vendor == nvidiaPCI && display:
		return CUDA
	case vendor == amdPCI && (display || accelerator):
		return ROCm
	case vendor == intelPCI && (display || accelerator):
		return Intel
	case vendor == amazonPCI && peripheral:
		return Neuron
	case vendor == habanaPCI && accelerator:
		return Gaudi
	case vendor == googlePCI && peripheral:
		return TPU
	}
	return ""
}

func hasSign(list []Sign, b Backend) bool {
	for _, s := range list {
		if s.Backend == b {
			return true
		}
	}
	return false
}

// nodesOf are the words in the names of a backend's device nodes.
var nodesOf = map[Backend][]string{CUDA: {"/nvidia", "/nvmap", "/nvhost", "/dxg"}, ROCm: {"/kfd", "/renderD"}, Intel: {"/renderD", "/accel"},
	Neuron: {"/neuron"}, TPU: {"/accel", "/vfio/"}, Gaudi: {"/accel", "/hl"}}

// refusals are the reasons of the devices that don't open, in parentheses.
func (m *machine) refusals(b Backend) string {
	var why []string
	for _, r := range m.refused {
		for _, word := range nodesOf[b] {
			if strings.Contains(r, word) {
				why = append(why, r)
				break
			}
		}
	}
	if why == nil {
		return ""
	}
	return " (" + strings.Join(why, "; ") + ")"
}
