"""Compiles CUDA C++ with NVRTC, which needs neither driver nor toolkit: python3 nvrtc.py < jobs.json.

jobs: {"library": path of libnvrtc.so, "includes": [folder], "jobs": [{"source": path, "target": "sm_80" or "compute_80", "image": path, "log": path}]}
Writes each image (a cubin or PTX) and its log. Prints a JSON line for each job: {"source", "target", "ok", "seconds"}.
"""

import ctypes
import json
import os
import sys
import time


def check(code, what):
    if code != 0:
        raise SystemExit(f"{what}: NVRTC error {code}")


def text_of(nvrtc, kind, program):
    """The log or an image of a program."""
    size = ctypes.c_size_t()
    check(getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)), f"size of {kind}")
    buffer = ctypes.create_string_buffer(size.value)
    check(getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer), kind)
    return buffer.raw


def compile_one(nvrtc, job, includes):
    with open(job["source"], "rb") as file:
        source = file.read()
    options = [f"--gpu-architecture={job['target']}", "--std=c++20", "-default-device"]
    options += [f"--include-path={folder}" for folder in includes]
    is_machine_code = job["target"].startswith("sm_")
    if is_machine_code:
        options.append("--ptxas-options=-v")
    encoded = [option.encode() for option in options]
    program = ctypes.c_void_p()
    name = os.path.basename(job["source"]).encode()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None), "nvrtcCreateProgram")
    code = nvrtc.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
    with open(job["log"], "wb") as file:
        file.write(text_of(nvrtc, "ProgramLog", program).rstrip(b"\0"))
    if code == 0:
        image = text_of(nvrtc, "CUBIN", program) if is_machine_code else text_of(nvrtc, "PTX", program).rstrip(b"\0")
        # Whole or not at all: a name that is there means a compilation that ended.
        with open(job["image"] + ".part", "wb") as file:
            file.write(image)
        os.replace(job["image"] + ".part", job["image"])
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code == 0


def main():
    request = json.load(sys.stdin)
    nvrtc = ctypes.CDLL(request["library"])
    for job in request["jobs"]:
        start = time.time()
        ok = compile_one(nvrtc, job, request["includes"])
        print(json.dumps({"source": job["source"], "target": job["target"], "ok": ok, "seconds": round(time.time() - start, 2)}), flush=True)


main()
