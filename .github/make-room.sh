#!/usr/bin/env bash
# Take from a hosted runner what no build of gesso uses, and say whether GB are free then: make-room.sh GB
set -euo pipefail
needed=$1
[[ ${GITHUB_ACTIONS:-} == true ]] || { echo "make-room.sh: only a hosted runner may be emptied" >&2; exit 2; }
sudo rm -rf /usr/local/lib/android /usr/share/dotnet /opt/ghc /usr/local/.ghcup /opt/hostedtoolcache/CodeQL \
  /usr/share/swift /usr/local/share/powershell
docker image prune --all --force >/dev/null
free=$(df --output=avail --block-size=1G / | tail -1 | tr -d ' ')
echo "$free GB free; a real image needs $needed GB"
((free >= needed)) || { echo "::error::$free GB free, $needed GB needed: use a larger runner" >&2; exit 1; }
