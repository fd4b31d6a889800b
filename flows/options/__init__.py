"""The options of the pipeline: what they are, how a person gives them, how forms show them."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "flows.options.pipeline": "PipelineOptions PipelineResources",
        "flows.options.stages": "STAGES",
        "flows.options.loading": "load",
    },
)
