#!/usr/bin/env bash
# What the tests of the server's pages need: Chromium and its driver (Debian's packages, installed where this is root), and axe-core
# (from npm, into the user's cache; it is neither kept here nor shipped). Does nothing where they are; exits 1 where one is missing.
set -euo pipefail

axe=axe-core-4.14.1
digest=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
place="${XDG_CACHE_HOME:-$HOME/.cache}/mynah-pages/$axe"

has() { command -v "$1" >/dev/null; }
has_browser() { has chromedriver && { has chromium || has chromium-browser || has google-chrome; }; }

if ! has_browser && has apt-get && [ "$(id -u)" = 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  timeout 600 apt-get update -qq </dev/null || true
  timeout 600 apt-get install -y -qq --no-install-recommends chromium chromium-driver </dev/null || true
fi

if [ ! -e "$place/axe.min.js" ] && has npm; then
  new=$(mktemp -d)
  trap 'rm -rf "$new"' EXIT
  if (cd "$new" && timeout 120 npm pack --silent "axe-core@${axe##*-}" </dev/null >/dev/null) &&
    echo "$digest  $new/$axe.tgz" | sha512sum --check --quiet; then
    tar -xzf "$new/$axe.tgz" -C "$new" package/axe.min.js
    mkdir -p "$place"
    mv "$new/package/axe.min.js" "$place/"
  fi
fi

missing=0
has_browser || { echo "there is no Chromium with its chromedriver: chromium and chromium-driver are Debian's packages of them" >&2; missing=1; }
[ -e "$place/axe.min.js" ] || { echo "there is no $place/axe.min.js: npm has it as axe-core@${axe##*-}" >&2; missing=1; }
exit "$missing"
