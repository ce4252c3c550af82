package backend

import (
	iofs "io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// A box describes a machine: devices (path relative to /) with the errno
// that opening gives (0: it opens), and files with their text.
type box struct {
	os, arch string
	devices  map[string]syscall.Errno
	files    map[string]string
}

func (b box) system() System {
	files := fstest.MapFS{}
	for p := range b.devices {
		files[p] = &fstest.MapFile{Mode: iofs.ModeDevice | iofs.ModeCharDevice | 0o600}
	}
	for p, text := range b.files {
		files[p] = &fstest.MapFile{Data: []byte(text)}
	}
	sys := System{OS: b.os, Arch: b.arch, Files: files, Open: func(p string) error {
		no, ok := b.devices[strings.TrimPrefix(p, "/")]
		switch {
		case !ok:
			return &iofs.PathError{Op: "open", Path: p, Err: iofs.ErrNotExist}
		case no != 0:
			return &iofs.PathError{Op: "open", Path: p, Err: no}
		}
		return nil
	}}
	if sys.OS == "" {
		sys.OS, sys.Arch = "linux", "amd64"
	}
	return sys
}

// pci are the files of a PCI device.
func pci(files map[string]string, addr, vendor, class string) map[string]string {
	out := map[string]string{"sys/bus/pci/devices/" + addr + "/vendor": vendor + "\n", "sys/bus/pci/devices/" + addr + "/class": class + "\n"}
	for k, v := range files {
		out[k] = v
	}
	return out
}

func render(node, vendor, driver string) map[string]string {
	return map[string]string{"sys/class/drm/" + node + "/device/vendor": vendor + "\n",
		"sys/class/drm/" + node + "/device/uevent": "DRIVER=" + driver + "\nPCI_CLASS=30000\n"}
}

var nvidiaHost = pci(map[string]string{"proc/driver/nvidia/version": "NVRM version: 570\n",
	"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: H100\n"}, "0000:01:00.0", "0x10de", "0x030200")

var machines = []struct {
	name     string
	box      box
	want     string
	sign     string // part of the first sign
	unusable string // part of what is reported; "" for nothing
}{
	{name: "nothing", want: "cpu", sign: "no device"},
	{name: "nvidia", want: "cuda", sign: "/dev/nvidia0 and /dev/nvidiactl open",
		box: box{files: nvidiaHost, devices: map[string]syscall.Errno{"dev/nvidia0": 0, "dev/nvidiactl": 0, "dev/nvidia-uvm": 0}}},
	{name: "nvidia with a render node and Vulkan", want: "cuda,vulkan", sign: "/dev/nvidia0",
		box: box{files: render("renderD128", "0x10de", "nvidia"), devices: map[string]syscall.Errno{"dev/nvidia0": 0, "dev/nvidiactl": 0, "dev/dri/renderD128": 0}}},
	{name: "second GPU only, as a container is given it", want: "cuda", sign: "/dev/nvidia1",
		box: box{devices: map[string]syscall.Errno{"dev/nvidia0": syscall.EPERM, "dev/nvidia1": 0, "dev/nvidiactl": 0}}},
	{name: "container: sysfs shows a GPU, no node is there", want: "cpu", box: box{files: nvidiaHost}, unusable: "0000:01:00.0"},
	{name: "container: the nodes are there and refuse", want: "cpu", unusable: "/dev/nvidia0: operation not permitted",
		box: box{files: nvidiaHost, devices: map[string]syscall.Errno{"dev/nvidia0": syscall.EPERM, "dev/nvidiactl": syscall.EPERM}}},
	{name: "nvidiactl without a GPU", want: "cpu", box: box{devices: map[string]syscall.Errno{"dev/nvidiactl": 0, "dev/nvidia-uvm": 0}}},
	{name: "driver loaded, PCI not visible", want: "cpu", unusable: "driver is loaded",
		box: box{files: map[string]string{"proc/driver/nvidia/version": "x"}}},
	{name: "WSL2 with CUDA", want: "cuda,directml", sign: "WSL2",
		box: box{files: map[string]string{"usr/lib/wsl/lib/libcuda.so.1": ""}, devices: map[string]syscall.Errno{"dev/dxg": 0}}},
	{name: "WSL2 without CUDA", want: "directml", sign: "/dev/dxg", box: box{devices: map[string]syscall.Errno{"dev/dxg": 0}}},
	{name: "WSL2 that refuses", want: "cpu",
		box: box{files: map[string]string{"usr/lib/wsl/lib/libcuda.so.1": ""}, devices: map[string]syscall.Errno{"dev/dxg": syscall.EACCES}}},
	{name: "Jetson", want: "cuda", sign: "Jetson", box: box{os: "linux", arch: "arm64", files: map[string]string{"etc/nv_tegra_release": "# R36"},
		devices: map[string]syscall.Errno{"dev/nvhost-ctrl-gpu": 0, "dev/nvmap": 0}}},
	{name: "Jetson in a container", want: "cuda", sign: "Jetson", box: box{os: "linux", arch: "arm64",
		files:   map[string]string{"proc/device-tree/compatible": "nvidia,p3737-0000\x00nvidia,tegra234\x00"},
		devices: map[string]syscall.Errno{"dev/nvhost-gpu": 0, "dev/nvmap": 0}}},
	{name: "Jetson without its nodes", want: "cpu", box: box{os: "linux", arch: "arm64", files: map[string]string{"etc/nv_tegra_release": "# R36"}}},
	{name: "ROCm", want: "rocm", sign: "/dev/kfd and /dev/dri/renderD128 (AMD) open",
		box: box{files: render("renderD128", "0x1002", "amdgpu"), devices: map[string]syscall.Errno{"dev/kfd": 0, "dev/dri/renderD128": 0}}},
	{name: "ROCm: kfd opens, the only render node is Intel's", want: "intel",
		box: box{files: render("renderD128", "0x8086", "i915"), devices: map[string]syscall.Errno{"dev/kfd": 0, "dev/dri/renderD128": 0}}},
	{name: "ROCm: not in group render", want: "cpu", unusable: "/dev/dri/renderD128: permission denied",
		box: box{files: pci(render("renderD128", "0x1002", "amdgpu"), "0000:03:00.0", "0x1002", "0x038000"),
			devices: map[string]syscall.Errno{"dev/kfd": 0, "dev/dri/renderD128": syscall.EACCES}}},
	{name: "AMD desktop with Vulkan", want: "vulkan", sign: "radeon_icd",
		box: box{files: merge(render("renderD128", "0x1002", "amdgpu"), map[string]string{"usr/share/vulkan/icd.d/radeon_icd.x86_64.json": "{}"}),
			devices: map[string]syscall.Errno{"dev/dri/renderD128": 0}}},
	{name: "a render node whose only Vulkan driver is the CPU", want: "cpu",
		box: box{files: merge(render("renderD128", "0x1af4", "virtio-pci"), map[string]string{"usr/share/vulkan/icd.d/lvp_icd.x86_64.json": "{}"}),
			devices: map[string]syscall.Errno{"dev/dri/renderD128": 0}}},
	{name: "Intel GPU", want: "intel", sign: "renderD129", box: box{files: render("renderD129", "0x8086", "xe"), devices: map[string]syscall.Errno{"dev/dri/renderD129": 0}}},
	{name: "Intel's vendor, another driver", want: "cpu", box: box{files: render("renderD128", "0x8086", "vfio-pci"), devices: map[string]syscall.Errno{"dev/dri/renderD128": 0}}},
	{name: "Intel NPU", want: "intel", sign: "intel_vpu",
		box: box{files: map[string]string{"sys/class/accel/accel0/device/uevent": "DRIVER=intel_vpu\n"}, devices: map[string]syscall.Errno{"dev/accel/accel0": 0}}},
	{name: "AMD NPU", want: "cpu",
		box: box{files: map[string]string{"sys/class/accel/accel0/device/uevent": "DRIVER=amdxdna\n"}, devices: map[string]syscall.Errno{"dev/accel/accel0": 0}}},
	{name: "Neuron", want: "neuron", sign: "/dev/neuron0", box: box{devices: map[string]syscall.Errno{"dev/neuron0": 0}}},
	{name: "EC2 without Neuron's node", want: "cpu", unusable: "neuron",
		box: box{files: pci(pci(nil, "0000:00:05.0", "0x1d0f", "0x020000"), "0000:00:1e.0", "0x1d0f", "0x088000")}},
	{name: "EC2 with a network card only", want: "cpu", box: box{files: pci(nil, "0000:00:05.0", "0x1d0f", "0x020000")}},
	{name: "TPU", want: "tpu", sign: "/dev/accel0", box: box{files: map[string]string{"sys/class/accel/accel0/device/vendor": "0x1ae0\n"},
		devices: map[string]syscall.Errno{"dev/accel0": 0}}},
	{name: "TPU by VFIO", want: "tpu", sign: "/dev/vfio/3",
		box: box{files: map[string]string{"sys/kernel/iommu_groups/3/devices/0000:00:04.0/vendor": "0x1ae0\n"}, devices: map[string]syscall.Errno{"dev/vfio/3": 0, "dev/vfio/vfio": 0}}},
	{name: "VFIO of another device", want: "cpu",
		box: box{files: map[string]string{"sys/kernel/iommu_groups/3/devices/0000:00:04.0/vendor": "0x10de\n"}, devices: map[string]syscall.Errno{"dev/vfio/3": 0}}},
	{name: "a flat accel of another maker", want: "cpu", box: box{files: map[string]string{"sys/class/accel/accel0/device/vendor": "0x1022\n"},
		devices: map[string]syscall.Errno{"dev/accel0": 0}}},
	{name: "Gaudi", want: "gaudi", sign: "habanalabs",
		box: box{files: map[string]string{"sys/class/accel/accel0/device/uevent": "DRIVER=habanalabs\n"}, devices: map[string]syscall.Errno{"dev/accel/accel0": 0}}},
	{name: "Gaudi, old driver", want: "gaudi", sign: "/dev/hl0", box: box{devices: map[string]syscall.Errno{"dev/hl0": 0}}},
	{name: "Mac", want: "metal", box: box{os: "darwin", arch: "arm64"}},
	{name: "Mac with an Intel processor", want: "cpu", box: box{os: "darwin", arch: "amd64"}},
	{name: "Windows", want: "directml", box: box{os: "windows", arch: "amd64"}},
	{name: "NVIDIA and AMD in one machine", want: "cuda,rocm", box: box{files: render("renderD129", "0x1002", "amdgpu"),
		devices: map[string]syscall.Errno{"dev/nvidia0": 0, "dev/nvidiactl": 0, "dev/kfd": 0, "dev/dri/renderD129": 0}}},
}

func merge(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func TestDetect(t *testing.T) {
	for _, tt := range machines {
		t.Run(tt.name, func(t *testing.T) {
			got := Detect(tt.box.system())
			if got.String() != tt.want {
				t.Fatalf("found %s, want %s (signs %v)", got, tt.want, got.Signs)
			}
			if len(got.Signs) != len(got.Backends) || !strings.Contains(got.Signs[0].String(), tt.sign) {
				t.Errorf("signs are %v, want one for each and %q in the first", got.Signs, tt.sign)
			}
			unusable := ""
			for _, s := range got.Unusable {
				unusable += s.String() + "\n"
			}
			if (tt.unusable == "") != (unusable == "") || !strings.Contains(unusable, tt.unusable) {
				t.Errorf("unusable is %q, want %q in it", unusable, tt.unusable)
			}
		})
	}
}

// The device must be one: a regular file that someone put there proves nothing.
func TestOpenDevice(t *testing.T) {
	if err := openDevice("/dev/null"); err != nil {
		t.Errorf("/dev/null: %v", err)
	}
	file := t.TempDir() + "/nvidia0"
	if err := openDevice(file); err == nil {
		t.Error("a device that is not there opens")
	}
	if err := writeFile(file); err != nil {
		t.Fatal(err)
	}
	if err := openDevice(file); err == nil || !strings.Contains(err.Error(), "not a character device") {
		t.Errorf("a regular file: %v", err)
	}
}

func TestHostIsDetected(t *testing.T) {
	if got := Detect(Host()); len(got.Backends) == 0 || len(got.Signs) != len(got.Backends) {
		t.Errorf("this machine has %+v", got)
	}
}

func TestParseChoice(t *testing.T) {
	nvidia := box{devices: map[string]syscall.Errno{"dev/nvidia0": 0, "dev/nvidiactl": 0}}.system()
	for _, tt := range []struct{ list, want string }{
		{"", "cuda"}, {"auto", "cuda"}, {" AUTO ", "cuda"}, {"all", "all"}, {"rocm,all", "all"}, {"cpu", "cpu"}, {"rocm,vulkan", "rocm,vulkan"},
		{"auto,cpu", "cuda,cpu"}, {"cuda,auto", "cuda"}, {"metal, metal", "metal"}, {"openvino", "intel"}, {"tpu,neuron,gaudi,directml", "tpu,neuron,gaudi,directml"},
	} {
		c, err := ParseChoice(tt.list)
		if err != nil {
			t.Errorf("%q: %v", tt.list, err)
			continue
		}
		s := c.Select(nvidia)
		if s.String() != tt.want {
			t.Errorf("%q selects %s, want %s", tt.list, s, tt.want)
		}
		if !s.All && len(s.Signs) != len(s.Backends) {
			t.Errorf("%q: signs %v for %v", tt.list, s.Signs, s.Backends)
		}
	}
	for _, list := range []string{"gpu", "cuda,", ",", "cuda rocm", "nvidia", "auto,x"} {
		if _, err := ParseChoice(list); !model.IsKind(err, model.Invalid) {
			t.Errorf("%q: %v, want an error of kind invalid", list, err)
		}
	}
}

// A choice without auto opens no device.
func TestNamedChoiceDoesNotDetect(t *testing.T) {
	c, err := ParseChoice("rocm")
	if err != nil {
		t.Fatal(err)
	}
	sys := box{devices: map[string]syscall.Errno{"dev/nvidia0": 0}}.system()
	sys.Open = func(p string) error { t.Errorf("%s is opened", p); return nil }
	want := Selection{Backends: []Backend{ROCm}, Signs: []Sign{{ROCm, "--backend says so"}}}
	if diff := cmp.Diff(want, c.Select(sys)); diff != "" {
		t.Error(diff)
	}
}
