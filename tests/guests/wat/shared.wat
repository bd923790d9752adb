;; Has a memory for several threads, which is a feature that is off.
(module (memory (export "memory") 1 1 shared) (func (export "_start")))
