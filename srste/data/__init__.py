"""Where examples come from, one kind of data a file."""

from srste.data.arrays import Arrays
from srste.data.base import Data, Setting, Source
from srste.data.teacher import RandomTeacher

__all__ = ["Arrays", "Data", "RandomTeacher", "Setting", "Source"]
