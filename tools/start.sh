#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# From a fresh checkout to a running example, or to the tests, in one command:
#
#     sh tools/start.sh example          converts the digits network, runs it, shows predictions
#     sh tools/start.sh faces            quantizes a float face detector, finds a face in a photo
#     sh tools/start.sh test [ARGS]      runs the test suite (ARGS go to pytest)
#
# Makes a virtual environment in .venv (or $EDGEQ_VENV), installs edgeq from this checkout into it, and
# nothing outside of it. Needs Python 3.9 or newer ($PYTHON, default python3) and a C compiler.
set -eu
cd "$(dirname "$0")/.."

what=${1:-help}
case $what in
example | faces | test) shift ;;
*) sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

venv=${EDGEQ_VENV:-.venv}
if [ ! -x "$venv/bin/python" ]; then
    echo "making $venv"
    "${PYTHON:-python3}" -m venv "$venv" || {
        echo "python3 has no venv module: on Debian, Ubuntu and Raspberry Pi OS 'apt install python3-venv'" >&2
        exit 1
    }
fi
case $what in
example) extra=convert ;;
faces) extra=convert,examples ;;
test) extra=convert,test ;;
esac
echo "installing edgeq[$extra] into $venv"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install ".[$extra]"
[ "$what" = example ] || install --no-deps -r examples/faces/requirements.txt

case $what in
example) exec "$venv/bin/python" examples/digits/run.py "$@" ;;
faces) exec "$venv/bin/python" examples/faces/faces.py "$@" ;;
test) exec "$venv/bin/pytest" "$@" ;;
esac
