#!/usr/bin/env bash
# What the tests of several processes need: `mpirun` of Open MPI and of MPICH (Debian's packages, installed where this is root).
# Does nothing where they are; exits 1 where one is missing.
set -euo pipefail

# $1: what `mpirun --version` says of itself
has() {
  local program
  for program in mpirun.openmpi mpirun.mpich mpirun; do
    if command -v "$program" >/dev/null && "$program" --version 2>/dev/null | grep -q "$1"; then return 0; fi
  done
  return 1
}

if ! { has "Open MPI" && has HYDRA; } && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  timeout 600 apt-get update -qq </dev/null || true
  timeout 600 apt-get install -y -qq --no-install-recommends openmpi-bin mpich </dev/null || true
fi

missing=0
has "Open MPI" || { echo "there is no mpirun of Open MPI: openmpi-bin is Debian's package of it" >&2; missing=1; }
has HYDRA || { echo "there is no mpirun of MPICH: mpich is Debian's package of it" >&2; missing=1; }
exit "$missing"
