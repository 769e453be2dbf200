#!/usr/bin/env python3
"""Compiles the kernels of crates/kernels-cuda as a GPU's owner would and prints what each takes of a chip: registers, shared
memory, spills. Needs no GPU: `pip install nvidia-cuda-nvrtc` for the compiler and a `ptxas` (from the CUDA toolkit, or from
`pip install triton`). Fails where a kernel spills registers or takes more shared memory than a block can have.

    tools/gpu_kernels.py [sm_80 sm_90a sm_100a]
"""
import ctypes, glob, pathlib, re, shutil, subprocess, sys, sysconfig, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SITE = pathlib.Path(sysconfig.get_paths()["purelib"])
MOST_SHARED = 48 << 10


def source():
    kernels = ROOT / "crates/kernels-cuda"
    names = re.findall(r'^    \("([\w.]+)",', (kernels / "src/source.rs").read_text(), re.M)
    return "".join(f'#line 1 "{name}"\n{(kernels / "kernels" / name).read_text()}\n' for name in names)


def library(pattern):
    found = sorted(glob.glob(str(SITE / "nvidia" / "*" / "lib" / pattern))) + [pattern.replace("*", "13")]
    for path in found:
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    sys.exit("no NVRTC here: pip install nvidia-cuda-nvrtc")


def ptx(nvrtc, text, chip):
    program = ctypes.c_void_p()
    check = lambda code: code and sys.exit(f"NVRTC failed: {code}")
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None))
    options = [f"--gpu-architecture={chip.replace('sm_', 'compute_')}".encode(), b"-std=c++17", b"-default-device"]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if log.value.strip():
        print(log.value.decode(), file=sys.stderr)
    if failed:
        sys.exit(1)
    check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    code = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetPTX(program, code))
    return code.value


def ptxas():
    bundled = sorted(glob.glob(str(SITE / "triton/backends/nvidia/bin/ptxas*")), key=len)
    found = [path for path in [shutil.which("ptxas"), *bundled] if path]
    return found or sys.exit("no ptxas here: install the CUDA toolkit, or pip install triton")


def report(code, chip):
    """(kernel, registers, shared bytes, spill bytes) of every kernel."""
    with tempfile.NamedTemporaryFile(suffix=".ptx") as file:
        file.write(code)
        file.flush()
        for tool in ptxas():
            run = subprocess.run([tool, f"-arch={chip}", "-v", "-o", "/dev/null", file.name], capture_output=True, text=True)
            if run.returncode == 0:
                break
        else:
            sys.exit(run.stderr)
    pieces = re.split(r"Compiling entry function '(\w+)'", run.stderr)[1:]
    for name, text in zip(pieces[::2], pieces[1::2]):
        number = lambda pattern: int((re.search(pattern, text) or [0, 0])[1])
        spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        yield name, number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), spills


def main():
    nvrtc, text, bad = library("libnvrtc.so.1*"), source(), []
    for chip in sys.argv[1:] or ["sm_80", "sm_90a", "sm_100a"]:
        print(f"{chip:32}{'registers':>10}{'shared':>8}{'spills':>8}")
        for name, registers, shared, spills in report(ptx(nvrtc, text, chip), chip):
            print(f"  {name:30}{registers:10}{shared:8}{spills:8}")
            if spills or shared > MOST_SHARED:
                bad.append(f"{name} on {chip}")
    sys.exit(f"spills or too much shared memory: {', '.join(bad)}" if bad else 0)


main()
