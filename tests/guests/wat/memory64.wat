;; Has a memory with addresses of 64 bits, which is a feature that is off.
(module (memory (export "memory") i64 1) (func (export "_start")))
