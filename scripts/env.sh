# Sourced by the other scripts: finds Python >= 3.11, makes .venv with the extras it is given.
# Quiet when all is well.

cd "$(dirname "$0")/.." || exit 1

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "power_loop needs Python 3.11 or newer; none was found. Install one, or set PYTHON." >&2
    return 1
}

make_environment() {
    VENV="${POWER_LOOP_VENV:-.venv}"
    if [ ! -x "$VENV/bin/python" ]; then
        python=$(find_python) || exit 1
        echo "Making $VENV with $("$python" --version) ..." >&2
        "$python" -m venv "$VENV" || {
            echo "No virtual environment could be made. On Debian: apt install python3-venv" >&2
            exit 1
        }
    fi
    stamp="$VENV/.power-loop-$1"
    if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
        echo "Installing power_loop[$1] ..." >&2
        "$VENV/bin/python" -m pip install --disable-pip-version-check -e ".[$1]" \
            >"$VENV/pip.log" 2>&1 || {
            tail -n 25 "$VENV/pip.log" >&2
            echo "The installation failed; the lines above say why, all of them are in $VENV/pip.log." >&2
            exit 1
        }
        touch "$stamp"
    fi
}
