#!/usr/bin/env python3
"""Compiles the kernels of crates/kernels-cuda into crates/kernels-cuda/compiled: machine code for three chips, and PTX that a
driver compiles for others. Needs no GPU and no CUDA, but these versions of the compilers:

    pip install nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-nvcc-cu12==12.9.86
    tools/gpu_kernels.py            # after every change of a kernel
    tools/gpu_kernels.py --check    # only whether what is there is what comes of the sources, to the byte

Prints, and keeps in compiled/kernels.txt, what each kernel takes of a chip: registers, shared memory, spills; fails where a kernel spills registers or takes
more shared memory than a block can have. CUDA 12's compilers, since code of a later CUDA is not read by drivers of CUDA 12.
"""
import argparse, ctypes, hashlib, json, pathlib, re, subprocess, sys, sysconfig, tempfile, zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATE = ROOT / "crates/kernels-cuda"
COMPILED = CRATE / "compiled"
NVIDIA = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia"
VERSION = "12.9.86"
CHIPS = ["sm_80", "sm_90a", "sm_100a"]
PTX = "compute_80"
# Of CUDA 12.0: the oldest driver that there is code for reads it. ptxas says whether it has all that is used, but for hints.
PTX_ISA = b".version 8.0"
NEWER_HINTS = rb'^\s*\.pragma "used_bytes_mask[^\n]*\n'
OPTIONS = ["-std=c++17", "-default-device"]
MOST_SHARED = 48 << 10


def source():
    names = re.findall(r'^    \("([\w.]+)",', (CRATE / "src/source.rs").read_text(), re.M)
    return "".join(f'#line 1 "{name}"\n{(CRATE / "kernels" / name).read_text()}\n' for name in names)


def compilers():
    nvrtc, ptxas = NVIDIA / "cuda_nvrtc/lib/libnvrtc.so.12", NVIDIA / "cuda_nvcc/bin/ptxas"
    for path, package in [(nvrtc, "nvidia-cuda-nvrtc-cu12"), (ptxas, "nvidia-cuda-nvcc-cu12")]:
        if not path.exists():
            sys.exit(f"no {path}: pip install {package}=={VERSION}")
    said = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True).stdout
    if f"V{VERSION}" not in said:
        sys.exit(f"another ptxas makes other code: pip install nvidia-cuda-nvcc-cu12=={VERSION}; this one is\n{said}")
    return ctypes.CDLL(str(nvrtc)), ptxas


def ptx(nvrtc, text, target):
    program = ctypes.c_void_p()
    check = lambda code: code and sys.exit(f"NVRTC failed: {code}")
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None))
    options = [option.encode() for option in [f"--gpu-architecture={target}", *OPTIONS]]
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
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if f"V{VERSION}" not in code.value.decode():
        sys.exit(f"another NVRTC makes other code: pip install nvidia-cuda-nvrtc-cu12=={VERSION}")
    return code.value


def machine_code(ptxas, code, chip):
    """The CUBIN, and (kernel, registers, shared bytes, spill bytes) of every kernel."""
    with tempfile.TemporaryDirectory() as work:
        pathlib.Path(work, "kernels.ptx").write_bytes(code)
        command = [ptxas, f"-arch={chip}", "-v", "-o", "kernels.cubin", "kernels.ptx"]
        run = subprocess.run(command, capture_output=True, text=True, cwd=work)
        if run.returncode:
            sys.exit(run.stderr)
        cubin = pathlib.Path(work, "kernels.cubin").read_bytes()
    pieces = re.split(r"Compiling entry function '(\w+)'", run.stderr)[1:]
    kernels = []
    for name, text in zip(pieces[::2], pieces[1::2]):
        number = lambda pattern: int((re.search(pattern, text) or [0, 0])[1])
        spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        kernels.append((name, number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), spills))
    return cubin, sorted(kernels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    (nvrtc, ptxas), text, bad, files = compilers(), source(), [], {}
    table = {}
    for chip in CHIPS:
        code, kernels = machine_code(ptxas, ptx(nvrtc, text, chip.replace("sm_", "compute_")), chip)
        files[f"{chip}.cubin"] = code
        for name, registers, shared, spills in kernels:
            table.setdefault(name, []).append(f"{registers:6}{shared:8}{spills:8}")
            if spills or shared > MOST_SHARED:
                bad.append(f"{name} on {chip}")
    row = lambda name, cells: f"{name:28}{''.join(cells)}\n"
    heads = row("", (f"{chip:>22}" for chip in CHIPS)) + row("registers, shared, spills", ())
    table = heads + "".join(row(name, cells) for name, cells in table.items())
    print(table, end="")
    code = re.sub(NEWER_HINTS, b"", ptx(nvrtc, text, PTX), flags=re.M)
    code = re.sub(rb"^\.version [\d.]+$", PTX_ISA, code, count=1, flags=re.M)
    machine_code(ptxas, code, PTX.replace("compute_", "sm_"))
    files[f"{PTX}.ptx"] = code + b"\0"
    if bad:
        sys.exit(f"spills or too much shared memory: {', '.join(bad)}")

    digest = lambda data: hashlib.sha256(data).hexdigest()
    made = {
        "compilers": f"NVRTC and ptxas {VERSION}, {' '.join(OPTIONS)}",
        "source": digest(text.encode()),
        "files": {name: digest(data) for name, data in files.items()},
    }
    made = json.dumps(made, indent=2) + "\n"
    if check:
        there = (COMPILED / "made.json").read_text()
        if there != made:
            sys.exit(f"compiled/made.json says other digests than these:\n{made}")
        if (COMPILED / "kernels.txt").read_text() != table:
            sys.exit("compiled/kernels.txt is not this table")
        for name, data in files.items():
            if zlib.decompress((COMPILED / f"{name}.z").read_bytes()) != data:
                sys.exit(f"compiled/{name}.z is not what comes of the sources")
        print("what is compiled is what comes of the sources")
        return
    COMPILED.mkdir(exist_ok=True)
    for name, data in files.items():
        packed = zlib.compress(data, 9)
        (COMPILED / f"{name}.z").write_bytes(packed)
        print(f"{name}: {len(data)} bytes, {len(packed)} packed")
    (COMPILED / "kernels.txt").write_text(table)
    (COMPILED / "made.json").write_text(made)


main()
