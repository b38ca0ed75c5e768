"""The names for the settings.py of a project, see the README in this folder."""

from codeprint import depends
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.hooks import ProvenanceHooks
from kedro_provenance.plan import by_partition
from kedro_provenance.session import AtomicContext, CachingConfigLoader, ResumingSession

__all__ = ["AtomicCatalog", "AtomicContext", "CachingConfigLoader", "ProvenanceHooks", "ResumingSession"]
__all__ += ["by_partition", "depends"]
