#!/bin/sh
# The whole loop from ranking to a better model, by a script in the browser, and the pictures of docs/feedback.md.
#
#   tools/loop.sh DIR           the loop; the model that it needs is made in DIR (a few minutes the first time)
#   tools/loop.sh DIR pictures  the same, with docs/images/loop-*.png
#
# MYNAH is the program that makes the model; target/release/mynah where it is not given.
set -eu
cd "$(dirname "$0")/.."
dir=$1
python3 tools/alarm.py --mynah "${MYNAH:-target/release/mynah}" --dir "$dir" --seeds 0 --planted-seeds 1 --only-runs
[ "${2:-}" = pictures ] && export MYNAH_PICTURES="$dir/pictures"
MYNAH_LOOP=$dir cargo test --release -p mynah --test pages -- whole --nocapture
[ "${2:-}" = pictures ] || exit 0
for language in en zh-CN; do
  suffix=; [ $language = en ] || suffix=.$language
  for name in rank learn compare learned alarm; do
    cp "$dir/pictures/loop-$name-1280-light-$language.png" "docs/images/loop-$name$suffix.png"
  done
done
