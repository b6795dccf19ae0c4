// Nothing: simt.hpp has it.
