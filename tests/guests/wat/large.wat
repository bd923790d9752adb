;; Declares 256 MiB of memory.
(module (memory (export "memory") 4096) (func (export "_start")))
