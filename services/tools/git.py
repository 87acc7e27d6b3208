"""What is done with git, as scripts for the sandbox: neither a bundle nor a workspace's own settings are to be trusted.

Input: ``/input`` (a bundle, or a patch) and the workspace. Output: exit code 0 and what was asked for, or git's words.
"""

_NEEDED = 'command -v git >/dev/null || { echo "git is not installed on this machine" >&2; exit 69; }\n'

_HEAD = """
head=$(git bundle list-heads /input HEAD 2>/dev/null | cut -d' ' -f1)
[ -n "$head" ] || head=$(git bundle list-heads /input | head -n 1 | cut -d' ' -f1)
[ -n "$head" ] || { echo "the bundle names no commit" >&2; exit 1; }
"""

GIT_CLONE = f"""{_NEEDED}set -e
git -c init.defaultBranch=main clone -q --template= /input . 2>"$TMPDIR"/said || {{ cat "$TMPDIR"/said; exit 1; }}
{_HEAD}
git rev-parse -q --verify HEAD >/dev/null || git checkout -q -b main "$head"
git remote remove origin
"""
"""The whole history, at the bundle's HEAD; for a bundle without one at its first branch."""

GIT_DIFF = f"""{_NEEDED}set -e
exec 3>&1 >"$TMPDIR"/said 2>&1
trap 'code=$?; [ $code = 0 ] || cat "$TMPDIR"/said >&3; exit $code' EXIT
git clone -q --bare --template= /input "$TMPDIR"/base
{_HEAD}
export GIT_DIR="$TMPDIR"/base GIT_WORK_TREE=/workspace GIT_INDEX_FILE="$TMPDIR"/index
git read-tree "$head"
git add -A .
git diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv "$head" >&3
"""
"""The bundle's HEAD against the files that are there now, new ones too, ignored ones not. The workspace's own ``.git``
is not asked: whatever was committed or destroyed there changes nothing."""

GIT_APPLY = f"""{_NEEDED}
git apply --whitespace=nowarn --verbose /input >"$TMPDIR"/said 2>&1 && exec cat "$TMPDIR"/said
git apply --recount --whitespace=nowarn --verbose /input >"$TMPDIR"/said-then 2>&1 && exec cat "$TMPDIR"/said-then
cat "$TMPDIR"/said; exit 1
"""
"""As a whole or not at all; git refuses paths that lead out. Models miscount lines, so these are counted anew then."""
