"""The invoke tasks: `invoke --list` lists them, `invoke --help build` explains one. Each calls into gesso."""

from invoke.tasks import task

from gesso import report
from gesso.builder.commands import build as builds
from gesso.builder.commands import check as checks
from gesso.builder.commands import heal as heals
from gesso.builder.commands import lock as locks
from gesso.builder.commands import publish as publishing
from gesso.builder.commands import run_tests
from gesso.builder.image.contract import ContractOptions
from gesso.builder.publish.request import PublishRequest
from gesso.builder.remote.command import HealRequest
from gesso.builder.vast.request import VastRequest
from gesso.devtools import architecture, own_tests
from gesso.errors import ManifestError

_ARCH = "the architecture: the name of a manifest (sdxl, flux)"
_OVERLAY = "a YAML file merged over the manifest; repeatable"
_TRIAL = "replace base, ComfyUI and models by stand-ins: needs no GitHub, Docker Hub or Hugging Face"
_JSON = "print the result as JSON"


@task(
    default=True,
    auto_shortflags=False,  # --cache-to would get an empty one, and --cache-from -h, which is help
    iterable=["overlay", "tag", "accept_license", "cache_from"],
    help={
        "arch": _ARCH, "overlay": _OVERLAY, "trial": _TRIAL, "json": _JSON,
        "builder": "the buildx builder to use", "tag": "an additional name for the image; repeatable",
        "push": "push every --tag after the build", "cache": "--no-cache rebuilds every layer",
        "bake": "models to include as layers of the image: none (fetched at first boot), required, or all",
        "accept_license": "bake weights under this licence although it forbids redistribution; repeatable",
        "layer_limit": "the largest layer that the registry accepts, in GB (default 10)",
        "cache_from": "a registry reference to read cached steps from; repeatable",
        "cache_to": "a registry reference to write all steps to; needs a suitable builder (docs/operator.md)",
    },
)  # fmt: skip
def build(
    _, arch, overlay=None, trial=False, builder=None, tag=None, push=False, cache=True, json=False, bake="none",
    accept_license=None, layer_limit=None, cache_from=None, cache_to=None,
):  # fmt: skip
    """Build an image: check the lock, render, build; print digest, size, layers and time."""
    with report.exit_codes():
        builds.build(arch, overlay, trial=trial, builder=builder, tags=tag, push=push, cache=cache, as_json=json,
                       bake=bake, licenses=accept_license, layer_limit=layer_limit, cache_from=cache_from,
                       cache_to=cache_to)  # fmt: skip


@task(help={"json": "print JSON in one line, for a CI matrix"})
def archs(_, json=False):
    """List every architecture that has a manifest."""
    with report.exit_codes():
        checks.archs(as_json=json)


@task
def check(_):
    """Check manifests, locks, workflows and rendered Dockerfiles, without network or engine, in two seconds."""
    with report.exit_codes():
        checks.check(architecture.generated())


@task(
    iterable=["overlay"],
    help={
        "arch": f"{_ARCH}; without it, all", "overlay": f"{_OVERLAY}; the lock is written beside it", "trial": _TRIAL,
        "upgrade": "upgrade Python pins to the newest that fit", "check": "only check for stale locks; offline",
        "summary": "a file to write the changes to, as Markdown for a pull request",
    },
)  # fmt: skip
def lock(_, arch=None, overlay=None, trial=False, upgrade=False, check=False, summary=None):
    """Resolve commits, digests, sizes, sha256 and Python hashes; print the difference."""
    with report.exit_codes():
        locks.lock(arch, overlay, trial=trial, upgrade=upgrade, check_only=check, summary=summary)


@task(iterable=["overlay"], help={"arch": _ARCH, "overlay": _OVERLAY, "trial": _TRIAL, "out": "an empty folder"})
def render(_, arch, out, overlay=None, trial=False):
    """Write the exact build context to a folder, for reading or for another builder."""
    with report.exit_codes():
        builds.render_context(arch, overlay, out, trial=trial)


@task(
    iterable=["overlay"],
    help={"arch": f"test a built image (without it, the project's own tests). {_ARCH}", "overlay": _OVERLAY,
          "trial": _TRIAL, "image": "the image, if not the one that build tagged: a tag, an id, or NAME@sha256:...",
          "only": "with --arch, --real or --registry: only matching tests (pytest -k)",
          "junit": "where to write the JUnit XML (default: beside the report, by the image's id)", "json": _JSON,
          "sabotage": "test the tests: build bad trial images, and check that each is detected (docs/sabotage.md)",
          "own": "with --arch: only tests that differ between architectures; the others are deselected",
          "workers": "with --arch: how many tests run in parallel (default: cores + 1, at most 4)",
          "registry": "publish trial images to a real registry on this machine (docs/maintainer.md)",
          "real": "run the gold graphs and the real image with the real ComfyUI, on a CPU (docs/maintainer.md)"},
)  # fmt: skip
def test(_, arch=None, overlay=None, trial=False, image=None, real=False, only=None, junit=None, json=False,
         sabotage=False, own=False, workers=0, registry=False):  # fmt: skip
    """Run the project's own tests; with --arch those of a built image, with --real those with the real ComfyUI."""
    with report.exit_codes():
        options = ContractOptions(image, only, junit, json, sabotage, own, workers)
        if registry:
            run_tests.registry_run(only)
        elif real:
            run_tests.real_run(only)
        elif arch is not None:
            run_tests.test_image(arch, overlay, options, trial=trial)
        elif options == ContractOptions():
            own_tests.run()
        else:
            flags = "--image, --only, --own, --workers, --junit, --json and --sabotage"
            raise ManifestError(f"{flags} need --arch", "add --arch NAME")


@task(
    iterable=["overlay"],
    help={"ssh": "USER@HOST:PORT of the instance", "instance": "or its id at Vast.ai (VAST_API_KEY)", "json": _JSON,
          "arch": f"the architecture to heal a foreign ComfyUI for. {_ARCH}", "overlay": _OVERLAY, "trial": _TRIAL,
          "accept_new_host_key": "trust a host key that is not known yet", "dry_run": "only check and report",
          "events": "print events, one line of JSON each", "comfyui": "the folder of a foreign ComfyUI on the instance",
          "no_ssh": "compare model sizes through Vast.ai's API: gesso images only; a size proves nothing",
          "apply": "with --no-ssh: remove bad models and reboot, so that the boot fetches and verifies them"},
)  # fmt: skip
def heal(_, ssh="", instance="", arch="", overlay=None, trial=False, accept_new_host_key=False, dry_run=False,
         events=False, json=False, comfyui="", no_ssh=False, apply=False):  # fmt: skip
    """Heal a running instance over SSH: a gesso image, or with --arch any ComfyUI."""
    with report.exit_codes():
        heals.heal(HealRequest(ssh, instance, arch, tuple(overlay), trial, no_ssh, apply, dry_run, events, json,
                           accept_new_host_key, comfyui))  # fmt: skip


@task(
    auto_shortflags=False,
    iterable=["overlay"],
    help={"arch": _ARCH, "registry": "the repository: HOST/NAME, such as ghcr.io/OWNER/gesso", "overlay": _OVERLAY,
          "image": "the image, if not the one that build tagged", "json": _JSON,
          "vast": "also create or replace the template at Vast.ai", "dry_run": "only print what would be done",
          "sign": "sign with this key: a file (COSIGN_PASSWORD), or a KMS that cosign supports",
          "keyless": "sign with the identity of this login or workflow", "no_sign": "sign and attach nothing",
          "no_tlog": "with --sign: do not upload to the public transparency log",
          "layer_limit": "the largest layer that the registry accepts, in GB (default 10)",
          "trial": "publish a trial image, to a registry on this machine only"},
)  # fmt: skip
def publish(_, arch, registry, overlay=None, image="", vast=False, dry_run=False, json=False, sign="", keyless=False,
            no_sign=False, no_tlog=False, layer_limit=None, trial=False):  # fmt: skip
    """Publish a tested image: push, read back, attach SBOM and provenance, sign; optionally a template."""
    with report.exit_codes():
        publishing.publish(PublishRequest(
            arch, registry, tuple(overlay), image, trial, dry_run, json, sign, keyless, no_sign, no_tlog,
            builds.bytes_of(layer_limit)), vast=vast)  # fmt: skip


@task(
    positional=["ref"],
    help={"ref": "the image: HOST/NAME:TAG or HOST/NAME@sha256:…", "key": "the public key of the required signer",
          "identity": "or the identity of the required keyless signer", "issuer": "and its OIDC issuer, as a URL",
          "no_tlog": "with --key: do not require the public transparency log", "json": _JSON},
)  # fmt: skip
def verify(_, ref, key="", identity="", issuer="", no_tlog=False, json=False):
    """Verify a published image from outside: signature, SBOM, provenance, labels."""
    with report.exit_codes():
        publishing.verify(ref, key, identity, issuer, no_tlog=no_tlog, as_json=json)


@task(
    positional=["old", "new"],
    help={
        "old": "an image: HOST/NAME:TAG in a registry, or NAME:TAG in the engine",
        "new": "the other image",
        "json": _JSON,
    },
)
def diff(_, old, new, json=False):
    """Print what a host that has one image must pull for another, by layer, and what changed in them."""
    with report.exit_codes():
        publishing.diff(old, new, as_json=json)


@task
def generate(_):
    """Write the generated files: the editors' schema, the trial's models, parts of the docs."""
    with report.exit_codes():
        checks.generate(architecture.generated())


@task(help={"models": "also remove the model store"})
def clean(_, models=False):
    """Remove the caches of sources and build contexts; the engine's images stay, and by default the models."""
    with report.exit_codes():
        builds.clean(models=models)


@task(
    positional=["what"],
    iterable=["overlay"],
    help={"what": "offers (that fit, with time and cost until ready) or template (publish one)",
          "arch": _ARCH, "overlay": _OVERLAY, "image": "NAME@DIGEST of the image in its registry", "json": _JSON,
          "limit": "how many offers (default 20)", "dry_run": "print the whole template and what would change"},
)  # fmt: skip
def vast(_, what, arch="sdxl", overlay=None, image="", limit="", dry_run=False, json=False):
    """Search offers at Vast.ai that fit an architecture, or publish the template of a pushed image."""
    with report.exit_codes():
        publishing.vast(VastRequest(what, arch, image, tuple(overlay), limit, dry_run, json))


@task(
    positional=["what"],
    iterable=["overlay"],
    help={"what": "image (versus a plain Dockerfile; prunes the build cache), fetch (versus other downloaders), start"
          " (versus a plain ComfyUI, while gigabytes are fetched), idle (a trial that does nothing, for minutes)",
          "arch": _ARCH, "overlay": _OVERLAY, "rounds": "runs of each (default 3)"},
)  # fmt: skip
def bench(_, what, arch="sdxl", overlay=None, rounds=3):
    """Benchmark against alternatives, into bench/results: `invoke bench image`, `fetch`, `start` or `idle`."""
    with report.exit_codes():
        run_tests.bench(what, arch, overlay, rounds=rounds)
