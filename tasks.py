"""The invoke tasks: `invoke --list` names them, `invoke --help build` explains one. Each is one line into gesso."""

from invoke.tasks import task

from gesso import report
from gesso.builder import commands, commands_publish
from gesso.builder.image.contract import Ask
from gesso.builder.publish import request as publishing
from gesso.builder.remote.command import Wish
from gesso.builder.vast.request import Wish as VastWish
from gesso.builder.vast.request import grant

_ARCH = "the architecture: the name of a manifest (sdxl, flux)"
_OVERLAY = "a YAML file laid over the manifest; may be given again"
_TRIAL = "swap base, ComfyUI and models for stand-ins: no GitHub, Docker Hub or Hugging Face needed"
_JSON = "print the result as JSON"


@task(
    default=True,
    auto_shortflags=False,  # --cache-to would get an empty one, and --cache-from the one that means help
    iterable=["overlay", "tag", "accept_license", "cache_from"],
    help={
        "arch": _ARCH, "overlay": _OVERLAY, "trial": _TRIAL, "json": _JSON,
        "builder": "the buildx builder to use", "tag": "a further name for the image; may be given again",
        "push": "push every --tag when the image is built", "cache": "--no-cache builds every layer anew",
        "bake": "models that become layers of the image: none (they are fetched at first boot), required, or all",
        "accept_license": "bake weights under this licence though it forbids redistribution; may be given again",
        "layer_limit": "GB that the registry takes in a layer (default 10)",
        "cache_from": "a reference in a registry to take finished steps from; may be given again",
        "cache_to": "a reference in a registry to write all steps to; wants a builder that can (docs/operator.md)",
    },
)  # fmt: skip
def build(
    _, arch, overlay=None, trial=False, builder=None, tag=None, push=False, cache=True, json=False, bake="none",
    accept_license=None, layer_limit=None, cache_from=None, cache_to=None,
):  # fmt: skip
    """Build an image: lock check, render, build; print digest, size, layers and time."""
    with report.exit_codes():
        commands.build(arch, overlay, trial=trial, builder=builder, tags=tag, push=push, cache=cache, as_json=json,
                       bake=bake, licenses=accept_license, layer_limit=layer_limit, cache_from=cache_from,
                       cache_to=cache_to)  # fmt: skip


@task(help={"json": "as JSON in one line, for a CI's matrix"})
def archs(_, json=False):
    """Name every architecture that has a manifest."""
    with report.exit_codes():
        commands.archs(as_json=json)


@task
def check(_):
    """Check manifests, locks, workflows and rendered Dockerfiles; no network, no engine, under two seconds."""
    with report.exit_codes():
        commands.check()


@task(
    iterable=["overlay"],
    help={
        "arch": f"{_ARCH}; without it, all", "overlay": f"{_OVERLAY}; the lock is written beside it", "trial": _TRIAL,
        "upgrade": "move Python pins to the newest that fit", "check": "only say whether the locks are fresh; offline",
        "summary": "a file that gets what moved, as Markdown for a pull request",
    },
)  # fmt: skip
def lock(_, arch=None, overlay=None, trial=False, upgrade=False, check=False, summary=None):
    """Resolve commits, digests, sizes, sha256 and Python hashes; show the difference."""
    with report.exit_codes():
        commands.lock(arch, overlay, trial=trial, upgrade=upgrade, check_only=check, summary=summary)


@task(iterable=["overlay"], help={"arch": _ARCH, "overlay": _OVERLAY, "trial": _TRIAL, "out": "an empty folder"})
def render(_, arch, out, overlay=None, trial=False):
    """Write the exact build context to a folder, for reading or for another builder."""
    with report.exit_codes():
        commands.render_context(arch, overlay, out, trial=trial)


@task(
    iterable=["overlay"],
    help={"arch": f"test a built image of it; without it, the project's own tests. {_ARCH}", "overlay": _OVERLAY,
          "trial": _TRIAL, "image": "another name than build gave it: a tag, an id, or NAME@sha256:...",
          "only": "with --arch, --real or --registry: those tests whose name or file has this in it (pytest -k)",
          "junit": "where the JUnit XML goes (default: beside the report, by the image's id)", "json": _JSON,
          "sabotage": "test the tests: make bad images of the trial's, and see that each is caught (docs/sabotage.md)",
          "own": "with --arch: only what differs between architectures; the rest is left out, and counted so",
          "workers": "with --arch: how many tests run at once (default: one more than there are cores, 4 at most)",
          "registry": "publish trial images to a real registry on this machine (docs/maintainer.md)",
          "real": "run the gold graphs and the real image with the real ComfyUI, on a CPU (docs/maintainer.md)"},
)  # fmt: skip
def test(_, arch=None, overlay=None, trial=False, image=None, real=False, only=None, junit=None, json=False,
         sabotage=False, own=False, workers=0, registry=False):  # fmt: skip
    """Run the project's own tests, or with --arch testinfra on that built image, or with --real the real ComfyUI."""
    with report.exit_codes():
        ask = Ask(image, only, junit, json, sabotage, own, workers)
        if registry:
            commands.registry_run(only)
        else:
            commands.real_run(only) if real else commands.test(arch, overlay, ask, trial=trial)


@task(
    iterable=["overlay"],
    help={"ssh": "USER@HOST:PORT of the instance", "instance": "or its number at Vast.ai (VAST_API_KEY)", "json": _JSON,
          "arch": f"what a foreign ComfyUI is made fit for. {_ARCH}", "overlay": _OVERLAY, "trial": _TRIAL,
          "accept_new_host_key": "trust a host key that is not known yet", "dry_run": "only look, and tell",
          "events": "print what happens, a line of JSON each", "comfyui": "the folder of a foreign ComfyUI, there",
          "no_ssh": "ask Vast.ai to list the models' sizes: for gesso images only, and a size proves nothing",
          "apply": "with --no-ssh: remove the bad ones and reboot, so that the boot fetches and verifies them"},
)  # fmt: skip
def heal(_, ssh="", instance="", arch="", overlay=None, trial=False, accept_new_host_key=False, dry_run=False,
         events=False, json=False, comfyui="", no_ssh=False, apply=False):  # fmt: skip
    """Heal a running instance over SSH: a gesso image, or with --arch any ComfyUI."""
    with report.exit_codes():
        commands.heal(Wish(ssh, instance, arch, tuple(overlay), trial, no_ssh, apply, dry_run, events, json,
                           accept_new_host_key, comfyui))  # fmt: skip


@task(
    auto_shortflags=False,
    iterable=["overlay"],
    help={"arch": _ARCH, "registry": "the repository: HOST/NAME, such as ghcr.io/OWNER/gesso", "overlay": _OVERLAY,
          "image": "the image's name, where it is not the one that build gave it", "json": _JSON,
          "vast": "then make or renew the template at Vast.ai", "dry_run": "only tell what would be done",
          "sign": "sign with this key: a file (COSIGN_PASSWORD), or a KMS that cosign knows",
          "keyless": "sign as whom this machine or its workflow is logged in", "no_sign": "sign and attach nothing",
          "no_tlog": "with --sign: keep it out of the public transparency log",
          "layer_limit": "GB that the registry takes in a layer (default 10)",
          "trial": "try it with a trial image, and a registry on this machine"},
)  # fmt: skip
def publish(_, arch, registry, overlay=None, image="", vast=False, dry_run=False, json=False, sign="", keyless=False,
            no_sign=False, no_tlog=False, layer_limit=None, trial=False):  # fmt: skip
    """Publish a checked image: push by digest, read back, bill of materials, provenance, signature, template."""
    with report.exit_codes():
        commands_publish.publish(publishing.Wish(
            arch, registry, tuple(overlay), image, trial, vast, dry_run, json, sign, keyless, no_sign, no_tlog,
            commands.bytes_of(layer_limit)))  # fmt: skip


@task(
    positional=["ref"],
    help={"ref": "the image: HOST/NAME:TAG or HOST/NAME@sha256:…", "key": "the public key of who must have signed",
          "identity": "or who must have signed without a key", "issuer": "and who vouches for that, as a URL",
          "no_tlog": "with --key: it is in no public transparency log", "json": _JSON},
)  # fmt: skip
def verify(_, ref, key="", identity="", issuer="", no_tlog=False, json=False):
    """Verify a published image as a stranger would: signature, bill of materials, provenance, labels."""
    with report.exit_codes():
        commands_publish.verify(ref, key, identity, issuer, no_tlog=no_tlog, as_json=json)


@task(
    positional=["old", "new"],
    help={"old": "an image: HOST/NAME:TAG in a registry, or NAME:TAG in the engine", "new": "another", "json": _JSON},
)
def diff(_, old, new, json=False):
    """Tell what a host that has one image must pull for another, by layer, and what changed in them."""
    with report.exit_codes():
        commands_publish.diff(old, new, as_json=json)


@task
def generate(_):
    """Write the files that are made from others: the editors' schema, the trial's models."""
    with report.exit_codes():
        commands.generate()


@task(help={"models": "the store of models, too"})
def clean(_, models=False):
    """Remove the caches of sources and build contexts; the engine's images stay, and the models unless told."""
    with report.exit_codes():
        commands.clean(models=models)


@task(
    positional=["what"],
    iterable=["overlay"],
    help={"what": "offers (machines that fit, with the time and cost until they paint) or template (publish one)",
          "arch": _ARCH, "overlay": _OVERLAY, "image": "NAME@DIGEST of the image in its registry", "json": _JSON,
          "limit": "how many offers (default 20)", "dry_run": "print the whole template and what would change"},
)  # fmt: skip
def vast(_, what, arch="sdxl", overlay=None, image="", limit="", dry_run=False, json=False):
    """Vast.ai: offers that fit an architecture, or the template of a pushed image."""
    with report.exit_codes():
        grant(VastWish(what, arch, image, tuple(overlay), limit, dry_run, json))


@task(
    positional=["what"],
    iterable=["overlay"],
    help={"what": "image (beside a plain Dockerfile; prunes the build cache), fetch (beside other downloaders), start"
          " (beside a bare ComfyUI, while gigabytes are fetched)",
          "arch": _ARCH, "overlay": _OVERLAY, "rounds": "how many times each is run (default 3)"},
)  # fmt: skip
def bench(_, what, arch="sdxl", overlay=None, rounds=3):
    """Measure beside peers, into bench/results: `invoke bench image`, `invoke bench fetch`, `invoke bench start`."""
    with report.exit_codes():
        commands.bench(what, arch, overlay, rounds=rounds)
