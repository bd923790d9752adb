;; Declares at most two pages itself, asks for a third, and traps: no limit of the run is concerned.
(module (memory (export "memory") 1 2)
  (func (export "_start") (if (i32.eq (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))))
