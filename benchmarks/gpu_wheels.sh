#!/bin/sh
# Collects wheels for a GPU machine without network: sh benchmarks/gpu_wheels.sh FOLDER [PACKAGE==VERSION ...]
# The machine has Linux on x86-64, Python 3.12 and torch. Without names, the packages that fgseg needs beside torch and
# that images with torch often lack are collected. Packages are taken without those that they need.
set -eu
folder=${1:?"expected a folder for the wheels"}
shift
if [ $# -eq 0 ]; then
    set -- pycocotools cachetools platformdirs lazy_loader tifffile typer rich
fi
platforms=""
for glibc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do
    platforms="$platforms --platform manylinux_${glibc}_x86_64"
done
# shellcheck disable=SC2086  # the platforms are several words
python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp $platforms \
    --platform manylinux2014_x86_64 --dest "$folder" "$@"
ls -l "$folder"
