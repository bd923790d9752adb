;; Imports a function that is offered with other parameters.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i64)))
  (memory (export "memory") 1) (func (export "_start")))
