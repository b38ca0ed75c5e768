"""Which variants merging works with."""

import pytest
import yaml

from named import names_with
from projects import ROOT
from reclora_extras.merging import pipeline
from reclora_extras.merging.pipeline import require_alike
from reclora_kedro.adapters.registry import read_settings

HISTORIES = {"retrieved": {"kind": "retrieved", "k": 5}, "recent": {"kind": "recent", "k": 5}}


def names_of(variants, others):
    return names_with({"history.short": HISTORIES, "finetuning.variants": variants} | others)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (["tallrec", "lora"], r"merging\.variants names 'lora': `finetuning\.variants` names tallrec, rella\. Choose"),
        (
            ["tallrec", "tallrec"],
            r"merging\.variants is tallrec, tallrec\. Name each once, and not merged, which it makes",
        ),
        (["tallrec", "rella"], r"different histories, recent, retrieved\. Merge variants of one history"),
    ],
)
def test_variants_that_cannot_be_merged_are_refused_by_name(variants, message):
    trained = {"tallrec": {"history": "recent"}, "rella": {"history": "retrieved"}}
    with pytest.raises(ValueError, match=message):
        pipeline.merged_variants(names_of(trained, {"merging.variants": variants}))
    names = names_of(trained, {"merging.variants": None, "export.variant": "rella"})
    assert pipeline.merged_variants(names) == ()
    assert "merging.retrieved.prompts" in pipeline.create_pipeline(names).all_outputs()


def test_variants_whose_loras_cannot_be_merged_are_refused_by_their_settings():
    block = yaml.safe_load((ROOT / "conf/base/parameters_finetuning.yml").read_text())["_adapter"]

    def adapter(**settings):
        return read_settings(block | {"num_meta_loras": 1} | settings)

    require_alike({"one": adapter(), "two": adapter()})
    with pytest.raises(ValueError, match=r"'one', of rank 8 on .*and 'two', of rank 4"):
        require_alike({"one": adapter(), "two": adapter(r=4)})
    for gated in (adapter(num_meta_loras=4), read_settings({"method": "mtl_lora"})):
        with pytest.raises(ValueError, match="'two', whose adapter differs from sample to sample"):
            require_alike({"one": adapter(), "two": gated})


def test_a_variant_with_the_name_of_a_way_of_merging_is_refused():
    names = names_of({"svd": {"history": "recent"}}, {"merging.variants": None})
    with pytest.raises(ValueError, match=r"finetuning\.variants names 'svd', which is a way of merging\. Rename it"):
        pipeline.create_pipeline(names)
