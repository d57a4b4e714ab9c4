from .identity import RunIdentity as RunIdentity, Writer as Writer
from .maintenance.checking import (
    Problem as Problem,
    RunStatus as RunStatus,
    check_store as check_store,
    run_status as run_status,
)
from .maintenance.compacting import Compacted as Compacted, compact_store as compact_store
from .manifest import Appended as Appended
from .opening import open_store as open_store
from .results.export import EXPORTS as EXPORTS, Exported as Exported, export_store as export_store
from .results.reading import StoreReader as StoreReader
from .results.stored_result import StoredResult as StoredResult
from .schema import ClassRow as ClassRow, Item as Item, RegionRow as RegionRow, Row as Row, Unit as Unit
from .store import Store as Store
