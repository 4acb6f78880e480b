from ourdb.store import OurDB, open
from ourdb import errors
