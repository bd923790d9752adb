;; Reads beyond its memory: the address that is the first argument of a page, and the last that can be written down.
(module (memory (export "memory") 1)
  (func (export "_start") (drop (i32.load8_u offset=4294967295 (i32.const -1)))))
