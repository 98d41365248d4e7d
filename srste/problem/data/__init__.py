"""Where examples come from, one kind of data a file."""

from srste.problem.data.arrays import Arrays
from srste.problem.data.base import Data, Setting, Source
from srste.problem.data.teacher import RandomTeacher

__all__ = ["Arrays", "Data", "RandomTeacher", "Setting", "Source"]
