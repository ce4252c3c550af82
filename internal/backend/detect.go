package backend

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// A System is what detection looks at. Tests imitate machines with it.
type System struct {
	OS, Arch string // as runtime.GOOS and GOARCH
	// Files is the root directory: names of device nodes, /sys and /proc.
	Files iofs.FS
	// Open opens a device node (absolute path) for reading and writing and
	// closes it again. nil: it can be used.
	Open func(path string) error
}

// Host is this machine.
func Host() System {
	return System{OS: runtime.GOOS, Arch: runtime.GOARCH, Files: os.DirFS("/"), Open: openDevice}
}

// openDevice takes only character devices. A device that one process has for
// itself (VFIO, TPUs) is busy: it is there and may be used, by that process.
func openDevice(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.EBUSY) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err == nil && st.Mode()&iofs.ModeCharDevice == 0 {
		err = fmt.Errorf("%s is not a character device", name)
	}
	return err
}

// Vendors of PCI devices, as sysfs writes them.
const (
	nvidiaPCI = "0x10de"
	amdPCI    = "0x1002"
	intelPCI  = "0x8086"
	amazonPCI = "0x1d0f"
	googlePCI = "0x1ae0"
	habanaPCI = "0x1da3"
)

// Detect finds the backends whose devices open, in the order of listings, or
// cpu. Opening a device runs its driver: that may take seconds where a GPU
// has to be woken, so it is for start-up.
func Detect(sys System) Selection {
	m := &machine{System: sys}
	var s Selection
	for _, p := range []struct {
		b    Backend
		sign func() string
	}{
		{CUDA, m.cuda}, {ROCm, m.rocm}, {Metal, m.metal}, {Vulkan, m.vulkan}, {DirectML, m.directML}, {Intel, m.intel}, {Neuron, m.neuron},
		{TPU, m.tpu}, {Gaudi, m.gaudi},
	} {
		if sign := p.sign(); sign != "" {
			s.Backends = append(s.Backends, p.b)
			s.Signs = append(s.Signs, Sign{p.b, sign})
		}
	}
	s.Unusable = m.unusable(s)
	if len(s.Backends) == 0 {
		s.Backends = []Backend{CPU}
		s.Signs = []Sign{{CPU, "no device of a GPU or an accelerator opens"}}
	}
	return s
}

// A machine answers one question a backend: the sign that it is usable here,
// or "".
type machine struct {
	System
	refused []string // device nodes that are here and don't open, and why
}

func (m *machine) cuda() string {
	if m.OS != "linux" && m.OS != "windows" {
		return ""
	}
	if gpu := m.firstOpen("dev/nvidia[0-9]*"); gpu != "" && m.opens("dev/nvidiactl") {
		return gpu + " and /dev/nvidiactl open"
	}
	if m.exists("usr/lib/wsl/lib/libcuda.so.1") && m.opens("dev/dxg") {
		return "/dev/dxg opens and /usr/lib/wsl/lib/libcuda.so.1 is there (WSL2)"
	}
	if !m.exists("etc/nv_tegra_release") && !strings.Contains(m.read("proc/device-tree/compatible"), "nvidia,tegra") {
		return ""
	}
	if host := m.firstOpen("dev/nvhost-*"); host != "" && m.opens("dev/nvmap") {
		return host + " and /dev/nvmap open (Jetson)"
	}
	return ""
}

func (m *machine) rocm() string {
	if !m.exists("dev/kfd") {
		return ""
	}
	node := m.renderNode(func(n string) bool { return m.vendor(n) == amdPCI })
	if node == "" || !m.opens("dev/kfd") {
		return ""
	}
	return "/dev/kfd and " + node + " (AMD) open"
}

func (m *machine) metal() string {
	if m.OS == "darwin" && m.Arch == "arm64" {
		return "this is macOS on Apple silicon"
	}
	return ""
}

// vulkan needs a driver beside the device. Lavapipe is one that computes on
// the CPU.
func (m *machine) vulkan() string {
	node := m.renderNode(func(string) bool { return true })
	if node == "" {
		return ""
	}
	for _, dir := range []string{"usr/share/vulkan/icd.d", "etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d"} {
		for _, icd := range m.glob(dir + "/*.json") {
			if !strings.Contains(path.Base(icd), "lvp_icd") {
				return node + " opens and /" + icd + " is there"
			}
		}
	}
	node = m.renderNode(func(n string) bool { return m.vendor(n) == nvidiaPCI })
	if node == "" {
		return ""
	}
	return node + " (NVIDIA) opens"
}

func (m *machine) directML() string {
	switch {
	case m.OS == "windows":
		return "this is Windows"
	case m.opens("dev/dxg"):
		return "/dev/dxg opens (WSL2)"
	}
	return ""
}

func (m *machine) intel() string {
	gpu := m.renderNode(func(n string) bool {
		driver := m.driver("sys/class/drm/" + n)
		return m.vendor(n) == intelPCI && (driver == "i915" || driver == "xe")
	})
	if gpu != "" {
		return gpu + " (Intel) opens"
	}
	for _, npu := range m.glob("dev/accel/accel*") {
		if m.driver("sys/class/accel/"+path.Base(npu)) == "intel_vpu" && m.opens(npu) {
			return "/" + npu + " (intel_vpu) opens"
		}
	}
	return ""
}

func (m *machine) neuron() string {
	if node := m.firstOpen("dev/neuron[0-9]*"); node != "" {
		return node + " opens"
	}
	return ""
}

// tpu checks the vendor: /dev/accel* is shared by makers of NPUs, and any
// device can be given away through VFIO.
func (m *machine) tpu() string {
	for _, node := range m.glob("dev/accel[0-9]*") {
		if m.read("sys/class/accel/"+path.Base(node)+"/device/vendor") == googlePCI && m.opens(node) {
			return "/" + node + " (Google) opens"
		}
	}
	for _, node := range m.glob("dev/vfio/[0-9]*") {
		vendors := m.glob("sys/kernel/iommu_groups/" + path.Base(node) + "/devices/*/vendor")
		if slices.ContainsFunc(vendors, func(v string) bool { return m.read(v) == googlePCI }) && m.opens(node) {
			return "/" + node + " (Google) opens"
		}
	}
	return ""
}

func (m *machine) gaudi() string {
	for _, node := range m.glob("dev/accel/accel*") {
		if m.driver("sys/class/accel/"+path.Base(node)) == "habanalabs" && m.opens(node) {
			return "/" + node + " (habanalabs) opens"
		}
	}
	if node := m.firstOpen("dev/hl[0-9]*"); node != "" {
		return node + " opens"
	}
	return ""
}

// renderNode is the first render node that is right and opens, or "".
func (m *machine) renderNode(right func(name string) bool) string {
	for _, node := range m.glob("dev/dri/renderD*") {
		if right(path.Base(node)) && m.opens(node) {
			return "/" + node
		}
	}
	return ""
}

// vendor is the PCI vendor of a DRM node.
func (m *machine) vendor(node string) string {
	return m.read("sys/class/drm/" + node + "/device/vendor")
}

// driver is the kernel driver of a device's class directory.
func (m *machine) driver(class string) string {
	for _, line := range strings.Split(m.read(class+"/device/uevent"), "\n") {
		if name, ok := strings.CutPrefix(line, "DRIVER="); ok {
			return name
		}
	}
	return ""
}

// firstOpen is the first device that matches and opens, or "".
func (m *machine) firstOpen(pattern string) string {
	for _, node := range m.glob(pattern) {
		if m.opens(node) {
			return "/" + node
		}
	}
	return ""
}

// opens reports whether a device is there and opens, and remembers why not.
func (m *machine) opens(node string) bool {
	if !m.exists(node) {
		return false
	}
	err := m.Open("/" + node)
	if err == nil {
		return true
	}
	var pe *iofs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if why := fmt.Sprintf("/%s: %v", node, err); !slices.Contains(m.refused, why) {
		m.refused = append(m.refused, why)
	}
	return false
}

func (m *machine) exists(name string) bool {
	_, err := iofs.Stat(m.Files, name)
	return err == nil
}

// glob matches names; patterns are constants, so there is no error.
func (m *machine) glob(pattern string) []string {
	names, _ := iofs.Glob(m.Files, pattern)
	return names
}

// read is the text of a small file, without the end of the line; "" if it
// can't be read.
func (m *machine) read(name string) string {
	f, err := m.Files.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\n\x00 ")
}
