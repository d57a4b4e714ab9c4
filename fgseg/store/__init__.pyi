from .identity import RunIdentity as RunIdentity, Writer as Writer
from .manifest import Appended as Appended
from .opening import open_store as open_store
from .schema import ClassRow as ClassRow, Item as Item, RegionRow as RegionRow, Row as Row, Unit as Unit
from .store import Store as Store
