<?php
/* A shop that fails in several ways: /shop/<what>. */

class Basket
{
    public function total(array $items): int
    {
        return array_sum(array_column($items, 'price'));
    }
}

class Checkout
{
    public function __construct(private Basket $basket)
    {
    }

    public function pay(string $customer): void
    {
        $total = $this->basket->total([['price' => 4200]]);
        throw new RuntimeException("payment of $total for $customer was declined by the bank");
    }
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
switch (basename($path)) {
    case 'pay':
        (new Checkout(new Basket()))->pay('customer 17');
        break;
    case 'total':
        (new Basket())->total('not an array');
        break;
    case 'report':
        ini_set('memory_limit', '4M');
        $rows = [];
        while (true) {
            $rows[] = str_repeat('row', 1000);
        }
        break;
    case 'maintenance':
        http_response_code(503);
        echo "back soon\n";
        break;
    default:
        echo "welcome\n";
}
