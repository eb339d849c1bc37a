"""Imports that components wrote before `bench` was divided into packages, and what to write instead."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path

import bench

# Old module -> the module that has its names today, both below `bench`.
MOVED = {
    "accounting": "dp.accounting", "aggregation": "models.federated.server", "answers": "models.output_perturbation",
    "census": "data.adult_schema", "classifier": "models.classifier", "clipping": "dp.clipping",
    "component": "core.component", "data": "core.dataset", "distances": "models.distances",
    "embedding": "models.mean_embedding", "encoding": "models.published_encoder", "engine": "dp.training_loop",
    "errors": "core.errors", "features": "models.scattering", "federated": "models.federated.protocol",
    "games.game": "core.game", "imputing": "models.attribute_imputer", "inverse": "models.code_decoder",
    "inverting": "models.inversion_search", "layers": "dp.layers", "mechanism": "dp.gaussian_mechanism",
    "metrics": "games.metrics", "nets": "dp.networks", "optimizer": "dp.optimizer", "pictures": "core.images",
    "prepared": "data.tfds_source", "priors": "models.image_prior", "progress": "core.progress",
    "randomness": "core.randomness", "recognition": "models.evaluation_network",
    "reference": "models.reference_generator", "registry": "core.component", "release": "core.release",
    "shadows": "games.shadow_models", "similarity": "models.ssim", "sources": "core.dataset",
    "synthesis": "models.vae_generator", "training": "dp.train",
}  # fmt: skip
RENAMED = {"Doubt": "Caveat"}
KEYWORDS = {"assumes": "public_knowledge"}


def advice(error: BaseException) -> str | None:
    """What to write in place of old imports, where they are why a module could not be loaded; else None."""
    if isinstance(error, TypeError):
        old = next((word for word in KEYWORDS if f"unexpected keyword argument '{word}'" in str(error)), None)
        return f"the argument {old} is now called {KEYWORDS[old]}" if old else None
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] != "bench":
        return None
    try:
        tree = ast.parse(Path(traceback.extract_tb(error.__traceback__)[-1].filename).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, IndexError):
        return None
    public: set[str] = set()
    others: dict[str, None] = {}
    for module, name, alias in _old_imports(tree):
        new = RENAMED.get(name, name)
        shown = f" as {alias}" if alias else f" as {name}" if new != name else ""
        if name and new in bench.__all__:
            public.add(new + shown)
        elif name:
            others[f"`from bench.{MOVED[module]} import {new}{shown}`"] = None
        else:
            package, _, last = MOVED[module].rpartition(".")
            others[f"`from bench.{package} import {last} as {alias or module}`"] = None
    lines = [*([f"`from bench import {', '.join(sorted(public))}`"] if public else []), *others]
    return f"modules of bench have moved since it was written: write {', '.join(lines)} instead." if lines else None


def _old_imports(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Old module, imported name ("" for the module itself), and alias ("" for none) of each old import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                package, _, module = one.name.partition(".")
                if package == "bench" and module in MOVED:
                    yield module, "", one.asname or ""
        elif isinstance(node, ast.ImportFrom) and not node.level:
            package, _, module = (node.module or "").partition(".")
            if package != "bench":
                continue
            for one in node.names:
                if module in MOVED:
                    yield module, one.name, one.asname or ""
                elif not module and one.name in MOVED and one.name not in bench.__all__:
                    yield one.name, "", one.asname or ""
