;; Grows its table until it is refused, and traps unless that was before 100,001 elements.
(module (memory (export "memory") 1) (table $table 1 funcref)
  (func (export "_start")
    (loop $more (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 999)) (i32.const -1))))
    (if (i32.gt_u (table.size $table) (i32.const 100000)) (then unreachable))))
