#!/usr/bin/env bash
# Put new locks on the branch `locks` and into its pull request: propose-locks.sh FOLDER
# FOLDER has locks/ and summary.md. Wants GH_TOKEN, and BASE: the branch to merge into.
set -euo pipefail
from=$1
branch=locks
title="Locks: the newest that fit"

# They come from a job that ran other people's code: nothing but plain files with a lock's name is taken.
strange=$(find "$from/locks" -mindepth 1 ! \( -type f \( -name '*.lock.json' -o -name '*.lock.txt' \) \))
[[ -z $strange ]] || { echo "::error::not a lock: $strange" >&2; exit 1; }
cp "$from"/locks/* manifests/locks/

git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git switch --create "$branch"
git add -- manifests/locks
git commit --quiet --message "$title"
gh auth setup-git
git push --force origin "$branch"

open=$(gh pr list --head "$branch" --base "$BASE" --state open --json number --jq '.[0].number // empty')
if [[ -n $open ]]; then
  gh pr edit "$open" --title "$title" --body-file "$from/summary.md"
else
  gh pr create --head "$branch" --base "$BASE" --title "$title" --body-file "$from/summary.md"
fi
# A pull request that was opened with this token starts no workflow by itself.
gh workflow run check.yml --ref "$branch" --raw-field real=true
